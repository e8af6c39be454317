"""The sweep of guidance as a table and a plot.

In: what was measured so far at each kind and scale. Out: :class:`~raekit.studies.report.StudyReport`. Each share stands
beside chance, in brackets, and above the ceiling: what the checker says of true pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raekit.data.scene_plan import Task
from raekit.evaluate.figures import Mean
from raekit.evaluate.page import Row
from raekit.evaluate.scene_report import ALL, DECODED, LABELS
from raekit.evaluate.scenes import CHECKER_NOTES
from raekit.metrics.scene_check import CheckerName
from raekit.studies.plot import Panel, draw_panels
from raekit.studies.report import StudyReport

CEILING, CHANCE = f"ceiling ({DECODED} pictures)", "chance"

NOTES = (
    "the same noise at every point; shares with their standard errors, in brackets chance: the same pictures judged by "
    "the other prompts of their task",
    f"{ALL}: the mean over the tasks shown; judged GenEval-style, in the domain of emoji: comparable with no published "
    "score",
)


@dataclass(frozen=True)
class Point:
    """What was found at one kind and scale, or of true pictures.

    Attributes:
        scores: share of right pictures, by task and over all.
        chance: share that is right for other prompts, likewise; None where there is no other prompt.
        distance: Frechet distance to true pictures.
    """

    scores: dict[str, Mean]
    chance: dict[str, float | None]
    distance: float

    @classmethod
    def of(cls, values: dict[str, Any]) -> Point:
        """What :func:`dataclasses.asdict` made of one, back from JSON."""
        scores = {name: Mean(**mean) for name, mean in values["scores"].items()}
        return cls(scores, values["chance"], values["distance"])

    def as_json(self) -> dict[str, Any]:
        """With whatever JSON can hold."""
        scores = {name: {"value": one.value, "standard_error": one.standard_error} for name, one in self.scores.items()}
        return {"scores": scores, "chance": self.chance, "distance": self.distance}


@dataclass(frozen=True)
class Findings:
    """What was measured so far.

    Attributes:
        checker: who judged.
        tasks: of the prompts.
        kinds: of guidance.
        scales: of each kind.
        truths: true pictures by what was done to them, :data:`~raekit.evaluate.scene_report.DECODED` among them.
        metric: what the distance is called.
        settings: model, data, checker.
        notes: further sentences.
        points: by kind and scale; what is missing is not measured yet, but something is.
    """

    checker: CheckerName
    tasks: list[Task]
    kinds: list[str]
    scales: list[int]
    truths: dict[str, Point]
    metric: str
    settings: dict[str, Any]
    notes: list[str]
    points: dict[tuple[str, int], Point] = field(default_factory=dict)


def report_of(found: Findings) -> StudyReport:
    """Table, plot, and the best points."""
    columns = [*(LABELS[task] for task in found.tasks), ALL, found.metric]
    groups = [
        (kind, [(f"scale {scale}", _cells(found, found.points.get((kind, scale)))) for scale in found.scales])
        for kind in found.kinds
    ]
    truths: list[Row] = [(name, _cells(found, point)) for name, point in found.truths.items()]
    groups.append(("true pictures", truths))
    figures = {
        "points": {f"{kind} {scale}": point.as_json() for (kind, scale), point in found.points.items()},
        "true pictures": {name: point.as_json() for name, point in found.truths.items()},
    }
    return StudyReport(
        title=f"Guidance, judged by the checker {found.checker}",
        settings=found.settings,
        columns=columns,
        groups=groups,
        figures=figures,
        notes=list(_notes(found)),
        plot=draw_panels(list(_panels(found))),
    )


def _notes(found: Findings) -> Iterator[str]:
    points, wanted = found.points, len(found.kinds) * len(found.scales)
    if len(points) < wanted:
        yield f"not finished: {len(points)} of {wanted} points are measured"
    kind, scale = max(points, key=lambda key: (points[key].scores[ALL].value, -points[key].distance))
    close, at = min(points, key=lambda key: points[key].distance)
    yield f"most right to {found.checker}, {ALL}: {kind} at scale {scale}"
    yield f"closest to true pictures: {close} at scale {at}"
    yield from NOTES
    if found.checker in CHECKER_NOTES:
        yield CHECKER_NOTES[found.checker]
    yield from found.notes


def _cells(found: Findings, point: Point | None) -> list[str]:
    """A share for each task and over all, and the distance."""
    if point is None:
        return ["-"] * (len(found.tasks) + 2)
    return [*(_share(point, name) for name in (*found.tasks, ALL)), f"{point.distance:.4g}"]


def _share(point: Point, name: str) -> str:
    mean, chance = point.scores[name], point.chance[name]
    return f"{mean.value:.2f} ± {mean.standard_error:.2f} ({'-' if chance is None else f'{chance:.2f}'})"


def _panels(found: Findings) -> Iterator[Panel]:
    """Shares over all and of each task, with chance and ceiling, and the distance."""
    places = [str(scale) for scale in found.scales]
    ceiling = found.truths[DECODED]
    titles: dict[str, str] = {ALL: ALL, **{task: LABELS[task] for task in found.tasks}}
    for name, title in titles.items():
        lines: dict[str, list[Mean | None]] = {
            kind: [point.scores[name] if point else None for point in _line(found, kind)] for kind in found.kinds
        }
        lines[CEILING] = [Mean(ceiling.scores[name].value, 0.0)] * len(places)
        lines[CHANCE] = [_chance(found, scale, name) for scale in found.scales]
        yield Panel(f"share right to the checker {found.checker}: {title}", places, lines, "guidance scale")
    distances: dict[str, list[Mean | None]] = {
        kind: [Mean(point.distance, 0.0) if point else None for point in _line(found, kind)] for kind in found.kinds
    }
    yield Panel(f"{found.metric} to true pictures (lower is closer)", places, distances, "guidance scale")


def _line(found: Findings, kind: str) -> list[Point | None]:
    return [found.points.get((kind, scale)) for scale in found.scales]


def _chance(found: Findings, scale: int, name: str) -> Mean | None:
    """The mean over the kinds: what is right by chance depends on how many things are drawn, and hardly on the kind."""
    points = [found.points[kind, scale] for kind in found.kinds if (kind, scale) in found.points]
    known = [value for point in points if (value := point.chance[name]) is not None]
    return Mean(sum(known) / len(known), 0.0) if known else None
