"""What changes a fingerprint and what does not, for files and for the sources that hang on them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tiny_data
from raekit.data.fingerprint import fingerprint_of, sketch_of
from raekit.data.folder import Folder
from raekit.data.jsonl import Jsonl
from raekit.data.shards import Shards


def test_ends_and_size_count_and_times_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(20_000))
    first = sketch_of(path)
    os.utime(path, (1, 1))
    assert sketch_of(path) == first
    for content in (b"x" + bytes(19_999), bytes(19_999) + b"x", bytes(19_999)):
        path.write_bytes(content)
        assert sketch_of(path) != first
    assert sketch_of(tmp_path / "b.bin") == "absent"


def test_values_are_told_apart() -> None:
    assert fingerprint_of([1, "a"]) == fingerprint_of([1, "a"]) != fingerprint_of(["a", 1])


def test_a_folder_may_be_moved_but_not_changed(tmp_path: Path) -> None:
    first = Folder(Folder.Config(path=tiny_data.pictures(tmp_path / "a"))).fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert Folder(Folder.Config(path=tmp_path / "b")).fingerprint() == first
    (tmp_path / "b" / "red_circle.txt").write_text("another caption")
    assert Folder(Folder.Config(path=tmp_path / "b")).fingerprint() != first


def test_a_tar_and_lines_of_json(tmp_path: Path, write_shard) -> None:
    first = Shards(Shards.Config(path=write_shard("a.tar"))).fingerprint()
    assert Shards(Shards.Config(path=write_shard("a.tar"))).fingerprint() == first
    assert Shards(Shards.Config(path=write_shard("a.tar", range(5)))).fingerprint() != first
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"image": "p/red_circle.png", "caption": "x"}\n')
    tiny_data.pictures(tmp_path / "p")
    before = Jsonl(Jsonl.Config(path=lines)).fingerprint()
    (tmp_path / "p" / "red_circle.png").write_bytes(b"changed")
    assert Jsonl(Jsonl.Config(path=lines)).fingerprint() != before
