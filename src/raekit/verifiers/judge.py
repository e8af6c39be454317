"""Whoever judges, asked in one way: latents and prompts to scores.

In: what a user may name as a verifier, and the generator whose latents it will see. Out: a :class:`Judge`. A verifier
of latents gets them as they are; a verifier of pixels, and any callable ``(images, prompts) -> scores``, gets them
rendered. What cannot judge this generator's latents, and with :meth:`Judge.check` what cannot be judged by these
prompts, is refused before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor

from raekit import config as recipes
from raekit.errors import UserError
from raekit.multimodal.unified import BUNDLED, Drawer, UnifiedModel
from raekit.registry import nearest_hint
from raekit.verifiers import VERIFIERS
from raekit.verifiers.base import LatentVerifier, LatentVerifierConfig, Verdict, Verifier, VerifierConfig

PixelScore = Callable[[Tensor, list[Any]], Any]
"""Images ``[B,3,S,S]`` in [0, 1] on the CPU and their prompts to ``B`` numbers, higher is better."""

VerifierChoice = str | Mapping[str, Any] | VerifierConfig | Verifier | PixelScore
"""A row of :data:`raekit.verifiers.VERIFIERS` (``clip_score=PATH`` names its weights, ``answer_logits=PATH`` another
model that judges), its settings, a verifier that is at hand, or a function of pixels."""


class Renders(Drawer, Protocol):
    """What this needs of a generator."""

    device: torch.device

    def decode(self, latents: Tensor) -> Tensor:
        """Images ``[B,3,S,S]`` in [0, 1] on the CPU, of latents ``[B,C,h,w]``."""
        ...

    def neighbour(self, path: str) -> Drawer:
        """Another generator, in the same latent space."""
        ...


class Judge:
    """Scores a generator's latents.

    Args:
        verifier: who does it.
        decode: renders latents for those who see pixels.

    Attributes:
        name: for tables and metadata.
        sees: what it looks at.
    """

    def __init__(self, verifier: Verifier | PixelScore, decode: Callable[[Tensor], Tensor]) -> None:
        self._verifier, self._decode = verifier, decode
        self.sees: Literal["latents", "images"] = "latents" if isinstance(verifier, LatentVerifier) else "images"
        if isinstance(verifier, Verifier):
            self.name = verifier.config.name
        else:
            self.name = getattr(verifier, "__name__", type(verifier).__name__)

    @classmethod
    def of(cls, choice: VerifierChoice, generator: Renders) -> Self:
        """The judge that ``choice`` means, for ``generator``.

        Raises:
            UserError: an unknown name, settings out of range, weights that are not there or of another latent space, or
                a verifier of latents where no model can be asked.
        """
        is_at_hand = isinstance(choice, Verifier) or (callable(choice) and not isinstance(choice, VerifierConfig))
        return cls(choice if is_at_hand else build_verifier(choice, generator), generator.decode)  # type: ignore[arg-type]

    def __call__(self, latents: Tensor, prompts: Sequence[Any]) -> Verdict:
        """The verdict on latents ``[B,C,h,w]``, one prompt for each.

        Raises:
            UserError: another number of scores than pictures, or one that is no number.
        """
        seen = latents if self.sees == "latents" else self._decode(latents)
        if isinstance(self._verifier, Verifier):
            verdict = self._verifier.judge(seen, list(prompts))
        else:
            verdict = {"score": torch.as_tensor(self._verifier(seen, list(prompts))).detach().double().cpu()}
        if verdict["score"].shape != (len(latents),):
            raise UserError(
                f"verifier {self.name}: scores of shape {list(verdict['score'].shape)} for {len(latents)} pictures; "
                "return one number for each"
            )
        if bool(verdict["score"].isnan().any()):
            raise UserError(f"verifier {self.name}: a score is no number (nan); return finite ones")
        return verdict

    def check(self, prompts: Sequence[Any]) -> None:
        """Refuse prompts that candidates could not be judged by, before there are any; a function takes all.

        Raises:
            UserError: one is no text, empty, or longer than the verifier reads.
        """
        if isinstance(self._verifier, Verifier):
            self._verifier.check(list(prompts))

    def describe(self) -> dict[str, Any]:
        """Its settings, JSON-able."""
        settings = self._verifier.config.model_dump(mode="json") if isinstance(self._verifier, Verifier) else {}
        return {"name": self.name, "sees": self.sees, **settings}


def build_verifier(choice: str | Mapping[str, Any] | VerifierConfig, generator: Renders) -> Verifier:
    """A registered verifier for ``generator``; errors as :meth:`Judge.of`."""
    config = _settings(choice)
    kind: type[Verifier] = VERIFIERS[config.name]
    if not issubclass(kind, LatentVerifier):
        built: Verifier = kind(config, generator.device)  # type: ignore[call-arg]
        return built
    assert isinstance(config, LatentVerifierConfig)
    asked = generator if config.path is None else generator.neighbour(config.path)
    try:
        return kind(config, UnifiedModel.of(asked))
    except UserError as error:
        others = [name for name in VERIFIERS if not issubclass(VERIFIERS[name], LatentVerifier)]
        raise UserError(
            f"verifier {config.name}: {error}; load a unified model trained in an RAE's latent space, name one that "
            f"judges ({config.name}=DIR, {BUNDLED} for nano models), or judge pixels with {' or '.join(others)}"
        ) from None


def _settings(choice: str | Mapping[str, Any] | VerifierConfig) -> VerifierConfig:
    if isinstance(choice, VerifierConfig):
        return choice
    given: dict[str, Any] = dict(choice) if isinstance(choice, Mapping) else {}
    if isinstance(choice, str):
        name, _, path = choice.partition("=")
        given = {"name": name} | ({"path": path} if path else {})
    name = str(given.get("name"))
    if name not in VERIFIERS:
        raise UserError(f"verifier: unknown name {name!r}; {nearest_hint(name, VERIFIERS)}")
    settings: VerifierConfig = recipes.validate(VERIFIERS[name].Config, given, f"verifier {name!r}")
    return settings
