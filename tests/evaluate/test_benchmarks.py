"""From a file of rows to prediction files, with answers that are scripted; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raekit.errors import UserError
from raekit.evaluate import benchmarks
from raekit.understand import Question, Understander

ROW = {"question_id": "5_0", "question": "who?", "image": ["a.png", "b.png"], **{f"choice_{x}": x for x in "abcd"}}


class Scripted(Understander):
    """Says B whatever it is asked, and remembers what that was."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.longest = 1000

    def ask(self, questions: Any, batch_size: int = 1, progress: Any = None, **options: Any) -> list[str]:
        self.asked, self.options = list(questions), options
        return ["B."] * len(self.asked)

    def refusal(self, question: Question, room: int, answer: str = "") -> str | None:
        return "question: too long" if len(question.turns[0].text) > self.longest else None


def rows_file(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join([*(json.dumps(row) for row in rows), ""]), encoding="utf-8")
    return path


def test_rows_become_questions_and_answers_a_file(tmp_path: Path) -> None:
    rows = benchmarks.read_rows(rows_file(tmp_path / "rows.jsonl", ROW, {**ROW, "question_id": "6_0"}))
    one = Scripted()
    predicted = benchmarks.predict(one, "seed", rows, max_tokens=5)
    assert one.options == {"max_tokens": 5}
    assert one.asked[0].pictures == (tmp_path / "a.png", tmp_path / "b.png")
    assert one.asked[0].turns[0].text.startswith("<image>\n<image>\nwho?\nA. a")
    (path,) = benchmarks.write("seed", predicted, tmp_path / "out")
    assert path == tmp_path / "out" / "seed.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"question_id": "5_0", "prediction": "B"},
        {"question_id": "6_0", "prediction": "B"},
    ]


def test_rows_that_cannot_be_asked_are_answered_with_nothing(caplog: pytest.LogCaptureFixture) -> None:
    one = Scripted()
    with caplog.at_level("WARNING"):
        predicted = benchmarks.predict(one, "seed", [ROW, {**ROW, "question": "who? " * 300}, ROW])
    assert [each.answer for each in predicted] == ["B.", "", "B."] and len(one.asked) == 2
    assert "seed: answered with nothing: 1 rows left out: row 1: question: too long" in caplog.text
    one.longest = 0
    with pytest.raises(UserError, match="seed: none can be asked; 2 rows left out: row 0: question: too long"):
        benchmarks.predict(one, "seed", [ROW, ROW])


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="benchmark: unknown name 'vqa'; known are mme, textvqa, ai2d, seed, mmmu, mmmu_pro"
    ):
        benchmarks.predict(Scripted(), "vqa", [ROW])
    with pytest.raises(UserError, match="seed: no rows; give those of the set lmms-lab/SEED-Bench"):
        benchmarks.predict(Scripted(), "seed", [])
    with pytest.raises(UserError, match="seed, row 1: has no question_id, image; give rows as the set lmms-lab/SEED"):
        benchmarks.predict(Scripted(), "seed", [ROW, {**ROW, "question_id": None, "image": None}])
    with pytest.raises(UserError, match=r"rows '.*none.jsonl': cannot be read"):
        benchmarks.read_rows(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"line 2: holds a list, not an object; mend it"):
        benchmarks.read_rows(rows_file(tmp_path / "bad.jsonl", ROW, [1]))
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"line 1: is not JSON"):
        benchmarks.read_rows(tmp_path / "bad.jsonl")
