"""How strongly to guide: a model drawn at every scale by every kind of guidance (Scale-RAE, section 4; RAEv2).

    held-out prompts --each kind, each scale--> pictures --scene checker--> right or wrong
                                                        --features--------> Frechet distance to true pictures

In: a text generator, emoji shards. Out: the share of right pictures of each task and the distance for scales 1 to 8 of
guidance by the absent condition, by the same within an interval (Kynkaanniemi et al. 2024), and by the early head where
there is one. The best point is named; a model's defaults are chosen from such a table. Every point is kept as soon as
it is measured, and the report is written anew; its pictures are kept too, for another checker to judge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.numpy import load_file, save_file

from raekit import config as recipes
from raekit.data.sample import Pixels
from raekit.data.scene_plan import TASKS, Task
from raekit.data.scene_prompts import ScenePrompt
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.evaluate.scene_report import ALL, DECODED, TRUE
from raekit.evaluate.scenes import build_checkers, decoded, draw_prompts, judge, true_pictures
from raekit.files import atomic_file, write_atomically
from raekit.generate import TextToImage
from raekit.metrics.features import FeatureNetwork, build_features
from raekit.metrics.frechet import FeatureStatistics, distance
from raekit.metrics.scene_check import CheckerName, SceneChecker
from raekit.metrics.scene_probe import SceneProbe, build_encoder
from raekit.registry import nearest_hint
from raekit.samplers.guidance import check_guidance
from raekit.studies.base import Progress, Study, numbers, silent
from raekit.studies.guidance_report import Findings, Point, report_of
from raekit.studies.report import StudyReport
from raekit.studies.scene_study import SceneStudyConfig, held_out, tasks_of, text_generator

BATCH_SIZE = 30
POINTS_FILE, PICTURES = "points.json", "pictures"
KINDS = ("cfg", "interval", "internal")
"""By the absent condition, by it within an interval, by the early head."""


class GuidanceSweep(Study):
    """How strongly to guide: right pictures and Frechet distance by kind and scale of guidance."""

    class Config(SceneStudyConfig):
        """Settings of the study; every point draws from the same noise."""

        name: Literal["guidance"] = "guidance"
        num_per_task: int = Field(40, ge=1)
        """Held-out prompts of each task."""
        tasks: str = "auto"
        """Which of GenEval's six tasks, comma-separated; auto: those that the checker can judge."""
        checker: CheckerName = "attributes"
        """Who judges: attributes (numbers and colours alone, which small models learn first), templates (the drawings
        themselves), or probe (an encoder's eye)."""
        encoder: str = "nano"
        """Encoder of the probe, NAME or NAME=DIR."""
        scales: str = "1,2,3,4,5,6,7,8"
        """Whole scales, comma-separated; 1 is no guidance."""
        kinds: str = "auto"
        """Of cfg, interval, internal, comma-separated; auto: all that the model has."""
        low: float = Field(0.0, ge=0, le=1)
        """Lowest time of the interval (0 data, 1 noise)."""
        high: float = Field(0.8, ge=0, le=1)
        """Highest time of the interval."""
        features: str = "nano"
        """Network of the distance, NAME or NAME=DIR."""

    def __init__(self, config: recipes.Config) -> None:
        assert isinstance(config, self.Config)
        self.config = config
        self.scales = numbers(config.scales, "scales")
        self.tasks = None if config.tasks == "auto" else tasks_of(config.tasks)
        self.kinds = [kind.strip() for kind in config.kinds.split(",")]
        for kind in self.kinds:
            if kind not in KINDS and config.kinds != "auto":
                raise UserError(f"kinds: unknown kind {kind!r}; {nearest_hint(kind, list(KINDS))}")
        if config.low > config.high:
            raise UserError(f"low: {config.low:g} is above high, {config.high:g}; the interval goes from low to high")

    @torch.no_grad()
    def run(self, directory: Path, progress: Progress | None = None) -> StudyReport:
        config, told = self.config, progress or silent
        told("loading", 0, 1)
        generator = text_generator(config)
        kinds = self._kinds_of(generator)
        scenes, every, origin = held_out(config, generator)
        encoder = build_encoder(config.encoder, generator.device) if config.checker == SceneProbe.name else None
        checkers = build_checkers(scenes, generator.latent_space, encoder)
        (checker,) = [one for one in checkers if one.name == config.checker]
        tasks = [task for task in TASKS if task in (self.tasks or checker.tasks)]
        prompts = [prompt for prompt in every if prompt.task in tasks]
        (network,) = build_features([config.features], generator.device).values()
        true = true_pictures(prompts, scenes, config.seed)
        judging = _Judging(prompts, checker, network, _seen(network, true))
        kept = _Kept(directory, generator, judging, config)
        settings = {**config.model_dump(mode="json"), "tasks": ", ".join(tasks), "generator": generator.checksum}
        found = Findings(
            checker=checker.name,
            tasks=tasks,
            kinds=kinds,
            scales=self.scales,
            truths={TRUE: judging.of(true), DECODED: judging.of(decoded(true, generator.latent_space))},
            metric=network.metric,
            settings={**settings, f"checker {checker.name}": checker.describe()},
            notes=[origin, self._interval()],
        )
        for number, (kind, scale) in enumerate(product(kinds, self.scales)):
            told(f"drawing ({kind}, scale {scale})", number, len(kinds) * len(self.scales))
            found.points[kind, scale] = kept.point(self.sampling(kind, scale))
            report_of(found).save(directory)
        return report_of(found)

    def sampling(self, kind: str, scale: int) -> dict[str, Any]:
        """Settings of one point, in the words of :class:`~raekit.samplers.settings.Sampling`."""
        steps = {} if self.config.steps is None else {"steps": self.config.steps}
        if scale == 1:  # no guidance, whatever its kind
            return {"guidance": "none", **steps}
        interval = (self.config.low, self.config.high) if kind == "interval" else (0.0, 1.0)
        guidance = "internal" if kind == "internal" else "cfg"
        return {"guidance": guidance, "guidance_scale": float(scale), "guidance_interval": interval, **steps}

    def _kinds_of(self, generator: TextToImage) -> list[str]:
        """Those asked for.

        Raises:
            UserError: the model has no early head, or no null condition, that one of them needs.
        """
        auto = ["cfg", "interval"] if generator.conditioner.dropout > 0 else []
        auto += ["internal"] if generator.backbone.early is not None else []
        kinds = auto if self.config.kinds == "auto" else self.kinds
        has_null, has_early = generator.conditioner.dropout > 0, generator.backbone.early is not None
        for kind in kinds:
            check_guidance(generator.sampling(**self.sampling(kind, 2)), has_null, has_early)
        return kinds

    def _interval(self) -> str:
        return f"interval: guidance acts between t = {self.config.low:g} and t = {self.config.high:g}"


@dataclass(frozen=True)
class _Judging:
    """Who looks at the pictures of some prompts, and the true pictures that they are compared with."""

    prompts: list[ScenePrompt]
    checker: SceneChecker
    network: FeatureNetwork
    truth: FeatureStatistics

    def of(self, pictures: Sequence[Pixels]) -> Point:
        """What is found in a picture ``[S,S,3]`` of each prompt."""
        judged = judge(self.prompts, self.checker.look(pictures))
        names: list[tuple[str, Task | None]] = [(ALL, None), *((task, task) for task in judged.tasks)]
        scores = {name: judged.score(task) for name, task in names}
        chance = {name: judged.by_chance(task) for name, task in names}
        return Point(scores, chance, distance(self.truth, _seen(self.network, pictures)).value)


class _Kept:
    """Points and their pictures on disk, each under what it depends on."""

    def __init__(
        self, directory: Path, generator: TextToImage, judging: _Judging, config: GuidanceSweep.Config
    ) -> None:
        self.directory, self.generator, self.judging, self.seed = directory, generator, judging, config.seed
        self.judges = [str(config.data), config.features, judging.checker.name, judging.checker.describe()]
        path = directory / POINTS_FILE
        self._points: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def point(self, sampling: dict[str, Any]) -> Point:
        """The one of these settings, drawn and judged where it is not known."""
        settings = self.generator.sampling(**sampling).model_dump(mode="json")
        texts = [prompt.text for prompt in self.judging.prompts]
        drawn = _digest([self.generator.checksum, texts, self.seed, settings])
        judged = _digest([drawn, self.judges])
        if judged not in self._points:
            point = self.judging.of(self._pictures(self.directory / PICTURES / f"{drawn}.safetensors", sampling))
            self._points[judged] = point.as_json()
            write_atomically(self.directory / POINTS_FILE, json.dumps(self._points, indent=1).encode())
        return Point.of(self._points[judged])

    def _pictures(self, path: Path, sampling: dict[str, Any]) -> list[Pixels]:
        if not path.is_file():
            made = draw_prompts(self.generator, self.judging.prompts, self.seed, sampling)
            with atomic_file(path) as temporary:
                save_file({PICTURES: np.stack(made)}, temporary)
        return list(load_file(path)[PICTURES])


def _digest(values: list[Any]) -> str:
    """Sixteen digits that change with any of ``values``."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _seen(network: FeatureNetwork, pictures: Sequence[Pixels]) -> FeatureStatistics:
    device = next(network.parameters()).device
    statistics = FeatureStatistics(network.width, device)
    for first in range(0, len(pictures), BATCH_SIZE):
        stacked = torch.stack([torch.from_numpy(picture) for picture in pictures[first : first + BATCH_SIZE]])
        statistics.update(network(to_float(stacked.permute(0, 3, 1, 2).to(device))))
    return statistics
