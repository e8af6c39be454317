"""Figures of answers worked out by hand, the table that shows them, and the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raekit.evaluate.understanding_report import DRAWN, OTHER, TRUE, Judged, UnderstandingReport, is_exact
from raekit.understand import Score

QUESTIONS = [
    ("counting", "how many?", "two"),
    ("counting", "how many?", "two"),
    ("counting", "how many?", "three"),
    ("presence", "is there a cat?", "yes"),
]


def judged(right: list[bool | None]) -> Judged:
    scores = [None if one is None else Score(-1.0 - place, place + 1, bool(one)) for place, one in enumerate(right)]
    return Judged([None if one is None else "two" for one in right], right, scores)


REPORT = UnderstandingReport(
    {"model": "nano"},
    QUESTIONS,
    {TRUE: judged([True, True, False, True]), OTHER: judged([True, False, False, None])},
    ["a: bad", "b: bad"],
)


@pytest.mark.parametrize(
    ("answer", "truth", "is_right"),
    [
        ("Yes.", "yes", True),
        ("the  red\napple", "a red apple", True),
        ("An apple", "apple", True),
        ("two", "2", False),
        ("yes, it is", "yes", False),
        ("", "yes", False),
        ("anapple", "apple", False),
        ("b", ("a", "B"), True),
    ],
)
def test_exactly_right(answer: str, truth: str | tuple[str, ...], is_right: bool) -> None:
    assert is_exact(answer, truth) == is_right


def test_figures() -> None:
    assert REPORT.kinds == ["counting", "presence"]
    assert REPORT.exact(TRUE, "counting").value == pytest.approx(2 / 3)
    assert REPORT.exact(TRUE).value == pytest.approx(3 / 4)
    # -1 over 1 token, -2 over 2, -3 over 3: tokens count alike.
    assert REPORT.loss(TRUE, "counting") == pytest.approx(1.0)
    assert REPORT.exact(OTHER, "presence") is None and REPORT.loss(OTHER, "presence") is None


def test_guessing() -> None:
    # One of the two others says "two", for each of the first two questions; none says "three".
    assert REPORT.chance("counting") == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert REPORT.chance("presence") is None
    assert REPORT.commonest("counting") == pytest.approx(2 / 3)
    # Over all: the commonest answer of each kind.
    assert REPORT.commonest() == pytest.approx(3 / 4)


def test_the_table_and_its_notes() -> None:
    assert REPORT.columns == ["questions", "chance", "commonest", TRUE, "loss", OTHER, "loss"]
    ((_, rows),) = REPORT.table()
    cells = dict(rows)
    assert list(cells) == ["counting", "presence", "all questions"]
    assert cells["presence"] == ["1", "-", "1.000", "1.000 ± 0.471", "1.000", "-", "-"]
    assert cells["counting"][:3] == ["3", "0.333", "0.667"]
    assert "2 conversations left out: a: bad; b: bad" in REPORT.notes[-1]
    assert not any(DRAWN in note for note in REPORT.notes)


def test_the_files(tmp_path: Path) -> None:
    report, answers = REPORT.save(tmp_path)
    kinds = json.loads(report.read_text())["kinds"]
    assert kinds["counting"]["questions"] == 3 and kinds["presence"][OTHER] == {"exact": None, "loss": None}
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len(lines) == 4
    assert lines[3] == {
        "kind": "presence",
        "question": "is there a cat?",
        "answer": "yes",
        TRUE: {"said": "two", "right": True, "log_probability": -4.0},
        OTHER: {"said": None, "right": None, "log_probability": None},
    }
