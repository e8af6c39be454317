"""One sentence on what cannot be used: as a warning, or as an error where nothing else is there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from raekit.data import left_out
from raekit.errors import UserError


def test_the_first_few_are_named_and_all_are_counted() -> None:
    assert left_out.sentence("lines", ["a", "b", "c"]) == "3 lines left out: a; b; c"
    assert left_out.sentence("samples", list("abcde")) == "5 samples left out: a; b; c, ..."


def test_a_file_with_something_in_it_gives_a_warning_at_most(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        left_out.report(Path("a.jsonl"), "lines", [], 5, "names no picture")
        left_out.report(Path("a.jsonl"), "lines", ["line 2: bad"], 5, "names no picture")
    assert caplog.messages == ["a.jsonl: 1 lines left out: line 2: bad"]


@pytest.mark.parametrize(("reasons", "why"), [([], "it is empty"), (["line 1: bad"], "1 lines left out: line 1: bad")])
def test_a_file_with_nothing_else_is_an_error(reasons: list[str], why: str) -> None:
    with pytest.raises(UserError, match=f"path a.jsonl: names no picture; {why}"):
        left_out.report(Path("a.jsonl"), "lines", reasons, 0, "names no picture")
