from __future__ import annotations

import json

import pytest

from raekit.data.quarantine import Quarantine, Skipped
from raekit.errors import UserError

BAD = [Skipped("web", "a/1", "a.tar:1: is no picture"), Skipped("emoji", "1", "1: broken metadata")]


def test_each_sample_is_noted_once_whoever_sees_it(tmp_path) -> None:
    path = tmp_path / "run" / "quarantine.jsonl"
    first, second = Quarantine(path), Quarantine(path)
    first.add(BAD)
    first.add(BAD)
    second.add([*BAD, Skipped("web", "a/2", "é")])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0].keys() == {"source", "key", "reason"} and len(rows) == 3
    assert first.counts() == second.counts() == Quarantine(path).counts() == {"emoji": 1, "web": 2}


def test_without_bad_samples_there_is_no_file(tmp_path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    quarantine.add([])
    assert quarantine.counts() == {} and not quarantine.path.exists()


def test_a_line_cut_short_is_no_line(tmp_path) -> None:
    path = tmp_path / "quarantine.jsonl"
    Quarantine(path).add(BAD)
    with path.open("a") as file:
        file.write('{"source": "web", "k')
    assert Quarantine(path).counts() == {"emoji": 1, "web": 1}


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="saving .*quarantine"):
        Quarantine(tmp_path / "file" / "quarantine.jsonl").add(BAD)
