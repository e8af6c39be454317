"""What sidecars say; ``test_shards.py`` reads the same from tars."""

from __future__ import annotations

import pytest

from raekit.data.sample import BadSample
from raekit.data.sidecars import picture_of, picture_suffixes, told


def test_the_json_comes_first_and_the_text_fills_in() -> None:
    assert told({".json": b'{"caption": "a bee", "label": 2}', ".txt": b"x", ".cls": b"5"}, "s") == (
        "a bee",
        {"label": 2},
    )
    assert told({".txt": b" a fox \n", ".cls": b"5"}, "s") == ("a fox", {"label": 5})
    assert told({".json": b'{"long": ["a", "b"]}', ".txt": b"x"}, "s", "long")[1]["alternatives"] == ["b"]
    assert told({}, "s") == ("", {})


@pytest.mark.parametrize("broken", [b"{", b"[1]", b"\xff"])
def test_broken_metadata_is_a_bad_sample(broken: bytes) -> None:
    with pytest.raises(BadSample, match=r"s.json: (is not JSON|holds a list)"):
        told({".json": broken}, "s")


def test_the_picture_is_found_by_its_suffix() -> None:
    members = {".1.png": (10, 5), ".json": (20, 5)}
    assert picture_of(members, picture_suffixes("1.PNG")) == (10, 5)
    assert picture_of(members, picture_suffixes(None)) is None
