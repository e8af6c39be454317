from __future__ import annotations

import pytest

from raekit.data.records import captions_in, described


@pytest.mark.parametrize(
    ("record", "field", "captions"),
    [
        ({"caption": " a dog "}, None, ["a dog"]),
        ({"text": "a cat", "prompt": "x"}, None, ["a cat"]),
        ({"caption": "", "prompt": "a fox"}, None, ["a fox"]),
        ({"captions": ["a", " ", 7, "b"]}, None, ["a", "b"]),
        ({"caption": "a", "alt": "b"}, "alt", ["b"]),
        ({"caption": "a"}, "alt", []),
        ({"caption": {"en": "a"}}, None, []),
        ({}, None, []),
    ],
)
def test_captions_are_found_under_the_usual_names(record, field, captions) -> None:
    assert captions_in(record, field) == captions


def test_a_record_becomes_a_caption_and_metadata() -> None:
    record = {"caption": "x", "alternatives": ["c", 5], "url": "u"}
    assert described(record, ["a", "b"], "7") == ("a", {"url": "u", "alternatives": ["b", "c"], "label": 7})
    assert described({"alternatives": "no list"}, []) == ("", {})
    assert described({"label": "dog"}, [], None) == ("", {"label": "dog"})
