from __future__ import annotations

import json

import pytest

from raekit.data.quarantine import MAX_SKIPS, Quarantine, Skipped, first_usable
from raekit.data.sample import BadSample
from raekit.errors import UserError

BAD = [Skipped("web", "a/1", "a.tar:1: is no picture"), Skipped("emoji", "1", "1: broken metadata")]


def usable_from(first: int, skip: int = 1):
    """A reader of a source whose samples can be used from ``first`` on."""

    def read(index: int) -> str:
        if index < first:
            raise BadSample(f"{index}: is bad", skip)
        return f"sample {index}"

    return read


def test_the_next_sample_that_can_be_used_takes_the_place() -> None:
    assert first_usable(usable_from(3), 5, 9, "web", str) == ("sample 5", ())
    found, skipped = first_usable(usable_from(3), 1, 9, "web", "s{}".format)
    assert found == "sample 3" and skipped == tuple(Skipped("web", f"s{n}", f"{n}: is bad") for n in (1, 2))
    assert len(first_usable(usable_from(5, skip=4), 1, 9, "web", str)[1]) == 1  # all that is broken with it is left out


def test_the_search_goes_on_at_the_beginning_but_not_for_ever() -> None:
    def only_the_first(index: int) -> int:
        if index:
            raise BadSample("bad")
        return index

    assert first_usable(only_the_first, 7, 9, "web", str)[0] == 0
    with pytest.raises(
        UserError, match=f"source 'web': {MAX_SKIPS} conversations in a row cannot be used, the last: 0:"
    ):
        first_usable(usable_from(5), 0, 1, "web", str, "conversations")


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
