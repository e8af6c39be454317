"""A pool of candidates on disk: drawn once, judged once by each, whatever is then made of it.

In: prompts, a generator, judges. Out: latents and scores of ``M`` candidates of each prompt. Every prompt's latents are
a file, every verdict an entry of ``verdicts.json``; both are written as soon as they are known, and a pool that is to
be larger is only added to. Candidate ``i`` of prompt ``p`` has the seed ``seed + 1000 p + i``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from raekit.cost import wait
from raekit.errors import UserError
from raekit.files import atomic_file, write_atomically
from raekit.generate import TextToImage

STRIDE = 1000
"""Between the seeds of two prompts; no more candidates of one are drawn."""

VERDICTS_FILE = "verdicts.json"

Look = Callable[[Tensor, str], Sequence[float]]
"""Latents ``[M,C,h,w]`` of one prompt, and the prompt, to a number for each."""


@dataclass(frozen=True)
class Drawn:
    """One prompt's candidates.

    Attributes:
        latents: ``[M, C, h, w]``.
        estimates: shape of ``latents``: where they were heading on the way.
        seconds: spent on drawing them.
    """

    latents: Tensor
    estimates: Tensor
    seconds: float


class Pool:
    """Candidates of some prompts.

    Args:
        directory: where the files are.
        generator: draws.
        sampling: settings where they differ from the generator's own.
        pause: steps after which it is noted where the pictures are heading.
        seed: of the first candidate of the first prompt.

    Raises:
        UserError: the verdicts that are there cannot be read.
    """

    def __init__(
        self, directory: Path, generator: TextToImage, sampling: dict[str, Any], pause: int, seed: int
    ) -> None:
        self.directory, self.generator, self.sampling = directory, generator, sampling
        self.pause, self.seed = pause, seed
        self._verdicts: dict[str, dict[str, Any]] = {}
        if (directory / VERDICTS_FILE).is_file():
            try:
                self._verdicts = json.loads((directory / VERDICTS_FILE).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"out {str(directory)!r}: {VERDICTS_FILE} is damaged ({error}); delete it") from None

    def draw(self, number: int, prompt: str, count: int) -> Drawn:
        """The first ``count`` candidates of a prompt; those that are not there yet are drawn and stored.

        Raises:
            UserError: the file holds candidates of another model, prompt or setting.
        """
        stored = self._load(number, prompt)
        missing = count - (0 if stored is None else len(stored.latents))
        if missing > 0:
            added = self._draw(prompt, self.seed + STRIDE * number + count - missing, missing)
            stored = added if stored is None else _joined(stored, added)
            self._save(number, prompt, stored)
        assert stored is not None
        share = count / len(stored.latents)
        return Drawn(stored.latents[:count], stored.estimates[:count], stored.seconds * share)

    def judge(self, who: str, number: int, prompt: str, latents: Tensor, look: Look) -> tuple[list[float], float]:
        """A number for each of a prompt's latents, and the seconds it took; told again where it is known already.

        Args:
            who: tells verdicts apart: who judges, with what settings, and what of the candidates.
            number: of the prompt.
            prompt: as it was drawn.
            latents: ``[M, C, h, w]``, the first ``M`` candidates.
            look: asked for what is not known.
        """
        known = self._verdicts.setdefault(who, {}).get(str(number), {"scores": [], "seconds": 0.0})
        done = len(known["scores"])
        if done < len(latents):
            start = perf_counter()
            scores = [float(value) for value in look(latents[done:], prompt)]
            wait(self.generator.device)
            seconds = known["seconds"] + perf_counter() - start
            known = {"scores": known["scores"] + scores, "seconds": seconds}
            self._verdicts[who][str(number)] = known
            content = json.dumps(self._verdicts, indent=1) + "\n"
            write_atomically(self.directory / VERDICTS_FILE, content.encode())
        share = len(latents) / len(known["scores"])
        return known["scores"][: len(latents)], known["seconds"] * share

    def _draw(self, prompt: str, seed: int, count: int) -> Drawn:
        start = perf_counter()
        way = self.generator.trajectories(prompt, count, seed, **self.sampling)
        estimates = way.pause(self.pause)
        latents = way.finish()
        return Drawn(latents, estimates, perf_counter() - start)

    def _path(self, number: int) -> Path:
        return self.directory / "latents" / f"{number:04d}.safetensors"

    def _origin(self, number: int, prompt: str) -> dict[str, Any]:
        """What the candidates depend on."""
        return {
            "prompt": prompt,
            "seed": self.seed + STRIDE * number,
            "generator": self.generator.checksum,
            "sampling": self.generator.sampling(**self.sampling).model_dump(mode="json"),
            "pause": self.pause,
        }

    def _load(self, number: int, prompt: str) -> Drawn | None:
        path = self._path(number)
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if json.loads(metadata["origin"]) != self._origin(number, prompt):
                raise UserError(
                    f"out {str(self.directory)!r}: holds candidates of another model, prompt or setting; name another "
                    "directory, or delete this one"
                )
            return Drawn(file.get_tensor("latents"), file.get_tensor("estimates"), float(metadata["seconds"]))

    def _save(self, number: int, prompt: str, drawn: Drawn) -> None:
        metadata = {"origin": json.dumps(self._origin(number, prompt)), "seconds": str(drawn.seconds)}
        tensors = {"latents": drawn.latents.contiguous(), "estimates": drawn.estimates.contiguous()}
        with atomic_file(self._path(number)) as temporary:
            save_file(tensors, temporary, metadata=metadata)


def _joined(first: Drawn, second: Drawn) -> Drawn:
    latents, estimates = (
        torch.cat(pair) for pair in ((first.latents, second.latents), (first.estimates, second.estimates))
    )
    return Drawn(latents, estimates, first.seconds + second.seconds)
