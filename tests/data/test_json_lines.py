"""Which lines are usable, where they begin, what is said of the others; ``test_jsonl.py`` reads samples from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raekit.data.json_lines import JsonLines, lines_of
from raekit.data.sample import BadSample
from raekit.errors import UserError


def has_a(record: dict[str, Any], name: str) -> None:
    if "a" not in record:
        raise BadSample(f"{name}: has no a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Lines 1, 4 and 6 hold an ``a``; the last has no end."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\r\n{"b": 2}\n{"a": "\xe2\x80\xa8"}\n{\n{"a": 3}')
    return path


def test_blank_lines_count_but_are_not_given(path: Path) -> None:
    content = path.read_bytes()
    lines = list(lines_of(path))
    assert [number for number, _, _ in lines] == [1, 3, 4, 5, 6]
    assert all(content[offset:].startswith(line) for _, offset, line in lines)


def test_usable_lines_are_read_by_index_and_the_others_told(path: Path) -> None:
    lines = JsonLines(path, None, has_a)
    assert [lines[index]["a"] for index in (2, 0, 1)] == [3, 1, "\u2028"]
    assert [lines.key_of(index) for index in range(len(lines))] == ["000000001", "000000004", "000000006"]
    assert list(lines.left_out) == ["000000003", "000000005"]
    assert lines.left_out["000000003"] == "line 3: has no a"
    assert lines.left_out["000000005"].startswith("line 5: is not JSON")


def test_a_file_that_changed_since_gives_bad_samples(path: Path) -> None:
    lines = JsonLines(path, None, has_a)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadSample, match=r"x.jsonl, line 6: is not JSON"):
        lines[2]


def test_pictures_lie_beside_the_file_or_in_a_folder(path: Path, tmp_path: Path) -> None:
    for folder, width in ((tmp_path, 4), (tmp_path / "other", 5)):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (width, 3)).save(folder / "p.png")
    assert JsonLines(path, None, has_a).picture("p.png", 0).shape == (3, 4, 3)
    lines = JsonLines(path, tmp_path / "other", has_a)
    assert lines.picture("p.png", 0).shape == (3, 5, 3)
    with pytest.raises(BadSample, match=r"other.q.png \(.*x.jsonl, line 4\): cannot be read \(No such file"):
        lines.picture("q.png", 1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; give a file with one JSON object a line"):
        JsonLines(tmp_path / "none.jsonl", None, has_a)
