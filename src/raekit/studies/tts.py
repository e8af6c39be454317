"""Test-time scaling: does the best of N get better with N, by whose choice, and at what price? (Scale-RAE, section 5.2)

    held-out prompts --> M latents each --verifiers--> best k of N --scene checkers--> right or wrong

In: a text generator, emoji shards. Out: the share of right pictures among the best 1 (and 4) of N = 1, 4, 8, 16, 32 by
every verifier, beside a choice by chance and by an oracle: the scene checker itself, which knows the answer.
Seconds for each picture kept, the share that verification takes of them, and what it costs to drop the worse half on
the way. All N are read off one pool of candidates, which is drawn once (``pool``, ``scaling``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from raekit import config as recipes
from raekit.best_of import Choosing
from raekit.cost import seconds_of
from raekit.data.scene_prompts import ScenePrompt
from raekit.data.scenes import Scenes
from raekit.device import device_name
from raekit.errors import UserError
from raekit.evaluate.scenes import build_checkers, decoded, true_pictures
from raekit.generate import TextToImage
from raekit.image_grid import to_arrays
from raekit.metrics.scene_check import SceneChecker, is_right
from raekit.metrics.scene_probe import build_encoder
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.studies.base import Progress, Study, numbers, silent
from raekit.studies.pool import STRIDE, Drawn, Pool
from raekit.studies.report import StudyReport
from raekit.studies.scaling import Timing
from raekit.studies.scene_study import SceneStudyConfig, held_out, tasks_of, text_generator
from raekit.studies.tts_report import Findings, Judged, report_of
from raekit.verifiers.judge import Judge

NUM_TIMED = 4
"""Pictures rendered to see how long one takes."""


class BestOfN(Study):
    """Best of N: does the share of right pictures rise with N, by which verifier, at what cost? (Scale-RAE, table 5)"""

    class Config(SceneStudyConfig):
        """Settings of the study."""

        name: Literal["tts"] = "tts"
        candidates: str = "1,4,8,16,32"
        """Sizes N of the choice, comma-separated; the largest is how many are drawn."""
        keep: str = "1,4"
        """How many of the N are kept, comma-separated."""
        verifiers: str = "auto"
        """Who chooses, comma-separated (NAME=DIR names weights, or the unified model that judges); auto: all that the
        model can use as it is."""
        prune_at: float = Field(0.5, gt=0, lt=1)
        """Share of the steps after which the worse half may be dropped."""
        encoder: str = "nano"
        """Encoder of the second checker, NAME or NAME=DIR; none: do without it."""
        guidance_scale: float | None = None
        """Strength of the guidance, where it is not to be the model's own."""

    def __init__(self, config: recipes.Config) -> None:
        assert isinstance(config, self.Config)
        self.config = config
        self.sizes, self.keeps = numbers(config.candidates, "candidates"), numbers(config.keep, "keep")
        if self.sizes[-1] > STRIDE:
            raise UserError(f"candidates: {self.sizes[-1]} of a prompt, at most {STRIDE} are drawn")
        if self.keeps[-1] > self.sizes[-1]:
            raise UserError(f"keep: {self.keeps[-1]} of at most {self.sizes[-1]} candidates; draw more, or keep fewer")
        self.tasks = tasks_of(config.tasks)
        kinds = [_kind(name) for name in config.verifiers.split(",")]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise UserError(
                f"verifiers: {twice[0]!r} is named {kinds.count(twice[0])} times; study one after the other"
            )

    @torch.no_grad()
    def run(self, directory: Path, progress: Progress | None = None) -> StudyReport:
        config, told = self.config, progress or silent
        told("loading", 0, 1)
        generator = text_generator(config)
        asked = {"steps": config.steps, "guidance_scale": config.guidance_scale}
        sampling: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        pause = Choosing(1, prune_at=config.prune_at).pause(generator.sampling(**sampling).steps)
        assert pause is not None
        judges = {_kind(name): Judge.of(name, generator) for name in self._verifiers(generator)}
        scenes, every, _ = held_out(config, generator)
        prompts = [prompt for prompt in every if prompt.task in self.tasks]
        pool = Pool(directory, generator, sampling, pause, config.seed)
        drawn = []
        for number, prompt in enumerate(prompts):
            told("drawing", number, len(prompts))
            drawn.append(pool.draw(number, prompt.text, self.sizes[-1]))
        work = _Work(pool, prompts, drawn)
        return report_of(self._measure(work, judges, self._checkers(scenes, generator), scenes, told))

    def _measure(
        self,
        work: _Work,
        judges: dict[str, Judge],
        checkers: Sequence[SceneChecker],
        scenes: Scenes,
        told: Progress,
    ) -> Findings:
        """Have the pool judged by everyone."""
        generator, count = work.pool.generator, len(work.prompts) * self.sizes[-1]
        right: dict[str, Tensor] = {}
        ceiling: dict[str, Tensor] = {}
        true = decoded(true_pictures(work.prompts, scenes, self.config.seed), generator.latent_space)
        for checker in checkers:
            told(f"checking ({checker.name})", 0, 1)
            right[checker.name] = work.right(checker)
            seen = checker.look(true)
            truths = [is_right(prompt, found) for prompt, found in zip(work.prompts, seen, strict=True)]
            ceiling[checker.name] = torch.tensor(truths)
        judged = {}
        for name, judge in judges.items():
            told(f"verifying ({name})", 0, 1)
            scores, seconds = work.scores(judge, "latents")
            estimates, _ = work.scores(judge, "estimates")
            judged[name] = Judged(scores, estimates, seconds / count)
        some = work.drawn[0].latents[:NUM_TIMED]
        decode = seconds_of(lambda: generator.decode(some), generator.device, 3) / len(some)
        draw = sum(one.seconds for one in work.drawn) / count
        settings = {
            **self.config.model_dump(mode="json"),
            "generator": generator.checksum,
            "sampling": generator.sampling(**work.pool.sampling).model_dump(mode="json"),
            "device": device_name(generator.device),
            **{f"verifier {name}": judge.describe() for name, judge in judges.items()},
            **{f"checker {checker.name}": checker.describe() for checker in checkers},
        }
        return Findings(
            tasks=[prompt.task for prompt in work.prompts],
            sizes=self.sizes,
            keeps=self.keeps,
            right=right,
            ceiling=ceiling,
            judged=judged,
            timing=Timing(draw, 0.0, decode),
            walked=work.pool.pause / work.pool.generator.sampling(**work.pool.sampling).steps,
            settings=settings,
        )

    def _verifiers(self, generator: TextToImage) -> list[str]:
        if self.config.verifiers != "auto":
            return [name.strip() for name in self.config.verifiers.split(",")]
        can_be_asked = isinstance(generator.conditioner, UnifiedConditioner)
        return [*(("answer_logits", "prompt_confidence") if can_be_asked else ()), "siglip_score"]

    def _checkers(self, scenes: Scenes, generator: TextToImage) -> list[SceneChecker]:
        name = self.config.encoder
        encoder = None if name == "none" else build_encoder(name, generator.device)
        return build_checkers(scenes, generator.latent_space, encoder)


@dataclass(frozen=True)
class _Work:
    """The pool, and what lies in it."""

    pool: Pool
    prompts: list[ScenePrompt]
    drawn: list[Drawn]

    def right(self, checker: SceneChecker) -> Tensor:
        """Which candidates are right, ``[P, M]`` bool."""
        by_text = {prompt.text: prompt for prompt in self.prompts}

        def look(latents: Tensor, text: str) -> list[float]:
            found = checker.look(list(to_arrays(self.pool.generator.decode(latents))))
            return [float(is_right(by_text[text], things)) for things in found]

        who = _called(f"checker {checker.name}", checker.describe())
        return torch.tensor([scores for scores, _ in self._asked(who, "latents", look)]) > 0.5

    def scores(self, judge: Judge, which: Literal["latents", "estimates"]) -> tuple[Tensor, float]:
        """What a verifier says of them, ``[P, M]``, and the seconds it took."""

        def look(latents: Tensor, text: str) -> list[float]:
            found: list[float] = judge(latents, [text] * len(latents))["score"].tolist()
            return found

        found = list(self._asked(_called(f"{judge.name} of {which}", judge.describe()), which, look))
        return torch.tensor([scores for scores, _ in found]), sum(seconds for _, seconds in found)

    def _asked(self, who: str, which: str, look: Any) -> Iterator[tuple[list[float], float]]:
        for number, (prompt, drawn) in enumerate(zip(self.prompts, self.drawn, strict=True)):
            yield self.pool.judge(who, number, prompt.text, getattr(drawn, which), look)


def _kind(verifier: str) -> str:
    """``answer_logits`` of ``answer_logits=DIR``."""
    return verifier.partition("=")[0].strip()


def _called(name: str, settings: dict[str, Any]) -> str:
    """A name that changes with the settings."""
    return f"{name} {hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]}"
