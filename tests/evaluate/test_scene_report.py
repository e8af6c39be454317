"""The arithmetic and the files of a report on scenes, from verdicts made up here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from raekit.data.scene_plan import Task
from raekit.data.scene_prompts import ScenePrompt
from raekit.evaluate.scene_report import ALL, COLUMNS, DECODED, GENERATED, TITLE, TRUE, Judged, SceneReport, share
from raekit.metrics.scene_check import Found

DOG = Found("dog", "red", (0.0, 0.0, 0.5, 0.5), 0.9)


def prompt(task: str, kind: str) -> ScenePrompt:
    return ScenePrompt(task, f"a photo of a {kind}", ({"class": kind, "count": 1},))


def judged(right: list[bool], single: float | None = 0.25) -> Judged:
    asked: list[Task] = ["colors", *["single_object"] * 4]
    return Judged(asked, right, [[DOG] for _ in right], {"single_object": single, "colors": None})


@pytest.fixture
def report() -> SceneReport:
    prompts = [prompt("colors", "dog"), *(prompt("single_object", kind) for kind in ("dog", "cat", "cow", "bus"))]
    sets = {
        GENERATED: judged([True, True, False, False, False]),
        TRUE: judged([True] * 5, 0.0),
        DECODED: judged([False, True, True, True, False]),
    }
    others = {**sets, GENERATED: judged([False, True, False, False, True])}
    sheets = {GENERATED: Image.new("RGB", (8, 8))}
    return SceneReport({"seed": 3}, prompts, 3, {"templates": sets, "probe": others}, ["<note>"], sheets)


def test_scores_are_shares_and_their_mean_over_tasks(report: SceneReport) -> None:
    made = report.results["templates"][GENERATED]
    assert report.tasks == ["single_object", "colors"]
    assert made.score("single_object").value == 0.25
    assert made.score().value == pytest.approx((0.25 + 1) / 2)
    errors = [made.score(task).standard_error for task in report.tasks]
    assert made.score().standard_error == pytest.approx(math.hypot(*errors) / 2)
    assert made.by_chance() == 0.25 and made.by_chance("colors") is None
    assert report.agreement() == pytest.approx(3 / 5)


def test_none_of_a_few_is_not_certain() -> None:
    none = share([False] * 8)
    assert none.value == 0 and none.standard_error == pytest.approx(math.sqrt(0.1 * 0.9 / 8))
    assert share([True, False]).standard_error == pytest.approx(math.sqrt(0.25 / 2))


def test_the_table_has_score_chance_and_ceiling(report: SceneReport) -> None:
    (title, rows), (other, _) = report.table()
    assert (title, other) == ("checker: templates", "checker: probe")
    assert [label for label, _ in rows] == ["single", "colour", ALL]
    assert all(len(cells) == len(COLUMNS) for _, cells in rows)
    number, score, chance, ceiling, _, decoded, _ = rows[0][1]
    assert (number, chance) == ("4", "0.250")
    assert score.startswith("0.25 ± 0.2") and ceiling.startswith("1.00 ±") and decoded.startswith("0.75 ±")
    assert rows[1][1][2] == "-"


def test_files(report: SceneReport, tmp_path: Path) -> None:
    paths = report.save(tmp_path)
    assert sorted(path.name for path in paths) == ["report.html", "report.json", "sheet_1.png"]
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["scores"]["probe"][ALL][GENERATED]["value"] == report.results["probe"][GENERATED].score().value
    assert content["scores"]["templates"]["single_object"][TRUE]["chance"] == 0
    assert [picture["seed"] for picture in content["pictures"]] == [3, 4, 5, 6, 7]
    first = content["pictures"][0]
    assert first["tag"] == "colors" and first["checkers"]["templates"][GENERATED]["found"][0]["kind"] == "dog"
    page = (tmp_path / "report.html").read_text()
    assert TITLE in page and "&lt;note&gt;" in page and "sheet_1.png" in page and "0.750" not in page
    assert page.count("<tr>") == 1 + 2 * 3
