from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from raekit.data.jsonl import Jsonl
from raekit.data.sample import BadSample
from raekit.errors import UserError


@pytest.fixture
def write(tmp_path):
    """A JSONL file of the given lines beside three pictures, told apart by their width."""

    def write_lines(*lines: object) -> Path:
        (tmp_path / "pictures").mkdir(exist_ok=True)
        for number in range(3):
            Image.new("RGB", (4 + number, 4)).save(tmp_path / "pictures" / f"{number}.png")
        path = tmp_path / "a.jsonl"
        path.write_bytes(
            b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
        )
        return path

    return write_lines


def open_lines(path: Path, **settings: object) -> Jsonl:
    return Jsonl(Jsonl.Config(path=path, **settings))


def test_a_line_is_a_picture_with_captions(write) -> None:
    lines = [{"image": f"pictures/{n}.png", "caption": f"number {n}", "label": n, "url": "u"} for n in range(3)]
    lines[1]["captions"] = ["ignored"]
    source = open_lines(write(*lines))
    assert len(source) == 3
    for index in (2, 0, 1):
        sample = source[index]
        assert (sample.image.shape[1], sample.caption, sample.label) == (4 + index, f"number {index}", index)
        assert sample.metadata["url"] == "u"
    assert source[0].key != source[1].key


def test_fields_and_folder_are_settings(write, tmp_path) -> None:
    path = write({"file": ["1.png", "2.png"], "texts": ["a", "b"], "class": "7", "conversations": [{}]})
    names = {"image": "file", "caption": "texts", "label": "class"}
    (sample,) = open_lines(path, image_folder=tmp_path / "pictures", **names)
    assert sample.image.shape[1] == 5
    assert (sample.captions, sample.label) == (["a", "b"], 7)
    assert "conversations" not in sample.metadata


def test_paths_may_be_absolute_and_captions_missing(write, tmp_path) -> None:
    (sample,) = open_lines(write({"image": str(tmp_path / "pictures" / "0.png")}))
    assert (sample.image.shape, sample.caption, sample.label) == ((4, 4, 3), "", None)


def test_broken_lines_are_counted_and_the_first_named(write, caplog) -> None:
    good = {"image": "pictures/0.png", "caption": "zero"}
    broken = [
        b"{",
        b'"text"',
        {"caption": "only text"},
        {"image": None},
        {"image": "nan"},
        {"image": "https://a/b.png"},
    ]
    with caplog.at_level(logging.WARNING):
        source = open_lines(write(good, *broken, b"", {**good, "caption": "naught"}, {"image": "a\0b"}))
    assert [sample.caption for sample in source] == ["zero", "naught"]
    assert len(source.left_out) == 7
    assert "7 lines left out: line 2: is not JSON" in caplog.text
    assert "line 3: holds a str, not an object; line 4: has no 'image', ..." in caplog.text
    assert source.left_out["000000007"] == "line 7: names a picture on the web (https://a/b.png); download it first"


def test_pictures_that_cannot_be_read_are_bad_samples(write, tmp_path) -> None:
    source = open_lines(write({"image": "pictures/9.png"}, {"image": "pictures/b.svg"}, {"image": "pictures"}))
    (tmp_path / "pictures" / "b.svg").write_text("<svg/>")
    for index, sentence in enumerate(("line 1.*No such file", "vector drawing", "line 3.*directory")):
        with pytest.raises(BadSample, match=sentence):
            source[index]


def test_a_file_that_was_cut_since_it_was_opened_gives_bad_samples(write) -> None:
    path = write({"image": "pictures/0.png"}, {"image": "pictures/1.png"})
    source = open_lines(path)
    path.write_bytes(path.read_bytes()[:-12])
    assert source[0].image.shape[1] == 4
    with pytest.raises(BadSample, match="line 2: is not JSON"):
        source[1]


@pytest.mark.parametrize(
    ("lines", "settings", "sentence"),
    [
        ([], {}, "names no picture; it is empty"),
        ([[{"image": "a.png"}]], {}, "line 1: holds a list, not an object"),
        (
            [{"image": "a.png", "text": "t"}],
            {"caption": "txet"},
            r"caption 'txet': no such field .* \['image', 'text'\]",
        ),
        ([{"picture": "a.png"}], {}, "line 1: has no 'image'"),
    ],
)
def test_mistakes_are_named(write, lines, settings, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_lines(write(*lines), **settings)


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_lines(tmp_path / "a.jsonl")
