"""The table, the best points and the plot of a sweep, from numbers made up here."""

from __future__ import annotations

import json
from dataclasses import replace

from raekit.data.scene_plan import Task
from raekit.evaluate.figures import Mean
from raekit.evaluate.scene_report import ALL, DECODED, TRUE
from raekit.studies.guidance_report import CEILING, CHANCE, Findings, Point, _panels, report_of

TASKS: list[Task] = ["counting", "colors"]


def point(right: float, distance: float, chance: float | None = 0.25) -> Point:
    return Point(dict.fromkeys((*TASKS, ALL), Mean(right, 0.1)), dict.fromkeys((*TASKS, ALL), chance), distance)


FOUND = Findings(
    checker="attributes",
    tasks=TASKS,
    kinds=["cfg", "internal"],
    scales=[1, 3],
    truths={TRUE: point(1.0, 0.0), DECODED: point(0.9, 1.0, None)},
    metric="fd_nano",
    settings={"seed": 0},
    notes=["<note>"],
    points={
        ("cfg", 1): point(0.2, 9.0),
        ("cfg", 3): point(0.6, 5.0),
        ("internal", 1): point(0.2, 9.0),
        ("internal", 3): point(0.4, 4.0, 0.35),
    },
)


def test_the_best_points_are_named() -> None:
    notes = report_of(FOUND).notes
    assert notes[0] == "most right to attributes, all tasks: cfg at scale 3"
    assert notes[1] == "closest to true pictures: internal at scale 3"
    assert "<note>" in notes and any(note.startswith("attributes: numbers and colours alone") for note in notes)


def test_shares_have_their_error_chance_and_ceiling() -> None:
    report = report_of(FOUND)
    assert report.columns == ["count", "colour", "all tasks", "fd_nano"]
    assert dict(report.groups)["cfg"][1] == ("scale 3", [*["0.60 ± 0.10 (0.25)"] * 3, "5"])
    assert dict(report.groups)["true pictures"][1] == (DECODED, [*["0.90 ± 0.10 (-)"] * 3, "1"])
    assert "attributes" in report.title


def test_what_is_not_measured_yet_is_left_out() -> None:
    begun = replace(FOUND, points={("cfg", 1): point(0.2, 9.0)})
    report = report_of(begun)
    assert report.notes[0] == "not finished: 1 of 4 points are measured"
    assert dict(report.groups)["internal"] == [("scale 1", ["-"] * 4), ("scale 3", ["-"] * 4)]
    assert list(report.figures["points"]) == ["cfg 1"]


def test_a_panel_for_each_task_and_one_for_the_distance() -> None:
    first, *_, last = panels = list(_panels(FOUND))
    assert len(panels) == 4 and "attributes" in first.title and last.title.startswith("fd_nano")
    assert [mean.value for mean in first.lines["cfg"] if mean] == [0.2, 0.6]
    assert [mean.value for mean in first.lines[CEILING] if mean] == [0.9, 0.9]
    assert [round(mean.value, 9) for mean in first.lines[CHANCE] if mean] == [0.25, 0.3]


def test_a_point_survives_json() -> None:
    one = point(0.5, 2.0, None)
    assert Point.of(json.loads(json.dumps(one.as_json()))) == one
