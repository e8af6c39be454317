from __future__ import annotations

import re

import pytest

from raekit.data.records import captions_in, described, picture_paths, record_in
from raekit.data.sample import BadSample


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


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"{", "is not JSON"), (b"\xff", "is not JSON"), (b"[1]", "holds a list, not an object")]
)
def test_bytes_that_hold_no_object(content: bytes, sentence: str) -> None:
    assert record_in(b'{"a": 1}', "line 7") == {"a": 1}
    with pytest.raises(BadSample, match=f"^line 7: {sentence}"):
        record_in(content, "line 7")


@pytest.mark.parametrize(
    ("value", "paths"),
    [("a.png", ["a.png"]), ([" a.png", "", "b.png"], ["a.png", "b.png"]), (None, []), (float("nan"), []), ("NULL", [])],
)
def test_a_record_states_one_picture_several_or_none(value: object, paths: list[str]) -> None:
    assert picture_paths(value, "line 7") == paths


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (7, "7 is no path of a picture"),
        (["a.png", {"bytes": None}], "{'bytes': None} is no path of a picture"),
        ("a\0b", "is no path of a picture"),
        (" https://a/b.png", "names a picture on the web (https://a/b.png); download it first"),
    ],
)
def test_what_is_no_path_is_a_bad_sample(value: object, sentence: str) -> None:
    with pytest.raises(BadSample, match="^line 7: .*" + re.escape(sentence)):
        picture_paths(value, "line 7")
