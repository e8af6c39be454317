"""How strongly to guide: a model drawn at every scale by every kind of guidance (Scale-RAE, section 4; RAEv2).

    held-out prompts --each kind, each scale--> pictures --scene checker--> right or wrong
                                                        --features--------> Frechet distance to true pictures

In: a text generator, emoji shards. Out: the share of right pictures and the distance for scales 1 to 8 of guidance by
the absent condition, by the same within an interval (Kynkaanniemi et al. 2024), and by the early head where there is
one. The best point is named; a model's defaults are chosen from such a table. Every point is kept as soon as it is
measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from raekit import config as recipes
from raekit.data.sample import Pixels
from raekit.data.scene_prompts import ScenePrompt
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.evaluate.figures import Mean
from raekit.evaluate.scenes import build_checkers, decoded, draw_prompts, true_pictures
from raekit.files import write_atomically
from raekit.generate import TextToImage
from raekit.metrics.features import FeatureNetwork, build_features
from raekit.metrics.frechet import FeatureStatistics, distance
from raekit.metrics.scene_check import SceneChecker, is_right
from raekit.registry import nearest_hint
from raekit.samplers.guidance import check_guidance
from raekit.studies.base import Progress, Study, numbers, silent
from raekit.studies.plot import Panel, draw_panels
from raekit.studies.report import StudyReport
from raekit.studies.scene_study import SceneStudyConfig, held_out, text_generator

BATCH_SIZE = 30
POINTS_FILE = "points.json"
KINDS = ("cfg", "interval", "internal")
"""By the absent condition, by it within an interval, by the early head."""


@dataclass(frozen=True)
class Point:
    """What was found at one kind and scale.

    Attributes:
        right: share of pictures that the checker finds right.
        error: its standard error.
        distance: Frechet distance to true pictures.
    """

    right: float
    error: float
    distance: float

    def cells(self) -> list[str]:
        """As the table shows it."""
        return [f"{self.right:.3f} ± {self.error:.3f}", f"{self.distance:.4g}"]


class GuidanceSweep(Study):
    """How strongly to guide: right pictures and Frechet distance by kind and scale of guidance."""

    class Config(SceneStudyConfig):
        """Settings of the study; every point draws from the same noise."""

        name: Literal["guidance"] = "guidance"
        num_per_task: int = Field(20, ge=1)
        """Held-out prompts of each of GenEval's six tasks."""
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
        scenes, prompts, origin = held_out(config, generator)
        checker = build_checkers(scenes, generator.latent_space)[0]
        (network,) = build_features([config.features], generator.device).values()
        true = true_pictures(prompts, scenes, config.seed)
        truth = _seen(network, true)
        ceiling = _measured(decoded(true, generator.latent_space), prompts, checker, network, truth)
        points: dict[tuple[str, int], Point] = {}
        kept = _Kept(directory / POINTS_FILE, {**config.model_dump(mode="json"), "generator": generator.checksum})
        todo = [(kind, scale) for kind in kinds for scale in self.scales]
        for number, (kind, scale) in enumerate(todo):
            told(f"drawing ({kind}, scale {scale})", number, len(todo))
            # Scale 1 is no guidance, whatever its kind.
            name = "none" if scale == 1 else f"{kind} {scale}"
            found = kept.points.get(name)
            if found is None:
                pictures = draw_prompts(generator, prompts, config.seed, self.sampling(kind, scale))
                found = _measured(pictures, prompts, checker, network, truth)
                kept.add(name, found)
            points[kind, scale] = found
        settings = {**config.model_dump(mode="json"), "generator": generator.checksum, "checker": checker.describe()}
        return report_of(points, ceiling, settings, network.metric, [origin, self._interval()])

    def sampling(self, kind: str, scale: int) -> dict[str, Any]:
        """Settings of one point, in the words of :class:`~raekit.samplers.settings.Sampling`."""
        interval = (self.config.low, self.config.high) if kind == "interval" else (0.0, 1.0)
        guidance = "internal" if kind == "internal" else "cfg"
        steps = {} if self.config.steps is None else {"steps": self.config.steps}
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


class _Kept:
    """Points on disk, those of these settings."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        # Which points are asked for does not change any of them.
        shared = {name: value for name, value in settings.items() if name not in ("scales", "kinds")}
        self.path = path
        self.key = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]
        self._all: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    @property
    def points(self) -> dict[str, Point]:
        """By name."""
        return {name: Point(**values) for name, values in self._all.get(self.key, {}).items()}

    def add(self, name: str, point: Point) -> None:
        """Keep one more."""
        self._all.setdefault(self.key, {})[name] = asdict(point)
        write_atomically(self.path, json.dumps(self._all, indent=1).encode())


def report_of(
    points: dict[tuple[str, int], Point], ceiling: Point, settings: dict[str, Any], metric: str, notes: Sequence[str]
) -> StudyReport:
    """Table, plot, and the best point of all.

    Args:
        points: by kind and scale.
        ceiling: of true pictures after the latent space.
        settings: model, data.
        metric: what the distance is called.
        notes: further sentences.
    """
    kinds = list(dict.fromkeys(kind for kind, _ in points))
    scales = sorted({scale for _, scale in points})
    rows = [(kind, [(f"scale {scale}", points[kind, scale].cells()) for scale in scales]) for kind in kinds]
    rows.append(("true pictures, decoded", [("", [f"{ceiling.right:.3f}", f"{ceiling.distance:.4g}"])]))
    best = max(points, key=lambda key: (points[key].right, -points[key].distance))
    closest = min(points, key=lambda key: points[key].distance)
    places = [str(scale) for scale in scales]
    panels = [
        Panel(
            "share of right pictures",
            places,
            {kind: [Mean(points[kind, s].right, points[kind, s].error) for s in scales] for kind in kinds},
            "guidance scale",
        ),
        Panel(
            f"{metric} to true pictures (lower is closer)",
            places,
            {kind: [Mean(points[kind, s].distance, 0.0) for s in scales] for kind in kinds},
            "guidance scale",
        ),
    ]
    said = [
        f"most right: {best[0]} at scale {best[1]}; closest to true pictures: {closest[0]} at scale {closest[1]}",
        "the same noise at every point; the checker is that of `raekit evaluate scenes`, GenEval-style, not GenEval",
        *notes,
    ]
    figures = {
        "points": {f"{kind} {scale}": asdict(point) for (kind, scale), point in points.items()},
        "ceiling": asdict(ceiling),
    }
    return StudyReport("Guidance", settings, ["right", metric], rows, figures, said, draw_panels(panels))


def _measured(
    pictures: Sequence[Pixels],
    prompts: Sequence[ScenePrompt],
    checker: SceneChecker,
    network: FeatureNetwork,
    truth: FeatureStatistics,
) -> Point:
    right = torch.tensor([is_right(p, found) for p, found in zip(prompts, checker.look(pictures), strict=True)])
    mean = Mean.of(right.float())
    return Point(mean.value, mean.standard_error, distance(truth, _seen(network, pictures)).value)


def _seen(network: FeatureNetwork, pictures: Sequence[Pixels]) -> FeatureStatistics:
    device = next(network.parameters()).device
    statistics = FeatureStatistics(network.width, device)
    for first in range(0, len(pictures), BATCH_SIZE):
        stacked = torch.stack([torch.from_numpy(picture) for picture in pictures[first : first + BATCH_SIZE]])
        statistics.update(network(to_float(stacked.permute(0, 3, 1, 2).to(device))))
    return statistics
