from __future__ import annotations

import json

import pytest

from raekit.data.builder import Drawn, Dropped, Manifest, build_shards, split_into_parts
from raekit.data.tar import index_tar
from raekit.errors import UserError


class Drawing:
    """Draws the number it is given, notes it, and stops the build at ``fails_at``."""

    def __init__(self, fails_at: int = -1) -> None:
        self.drawn: list[int] = []
        self.fails_at = fails_at

    def __call__(self, item: int) -> Drawn | Dropped:
        if item == self.fails_at:
            raise KeyboardInterrupt
        self.drawn.append(item)
        if item == 3:
            return Dropped("blank")
        digest = str(item % 8 if item < 10 else item)
        return Drawn(f"k{item}", bytes([item]), {"caption": str(item)}, digest, suffix=".png")


def build(folder, draw, size: int = 64, count: int = 10):
    parts = split_into_parts({"train": range(count), "test": range(20, 22)}, samples_per_shard=4)
    return build_shards(folder, Manifest("numbers", {"size": size}), parts, draw)


def keys(folder, name: str) -> tuple[str, ...]:
    return index_tar(folder / name).keys


def test_parts_are_named_by_split_and_number() -> None:
    parts = split_into_parts({"train": range(5), "test": range(1)}, samples_per_shard=4)
    assert [(part.file, part.split, len(part.items)) for part in parts] == [
        ("train-000000.tar", "train", 4),
        ("train-000001.tar", "train", 1),
        ("test-000000.tar", "test", 1),
    ]


def test_blanks_and_copies_are_dropped_and_counted(tmp_path) -> None:
    """Numbers 8 and 9 have the digests of 0 and 1, of another shard; 3 is blank."""
    manifest = build(tmp_path, Drawing())
    assert manifest.splits == {"train": 7, "test": 2}
    assert manifest.dropped == {"blank": 1, "duplicate": 2}
    assert keys(tmp_path, "train-000000.tar") == ("k0", "k1", "k2")
    assert manifest.is_complete
    assert Manifest.load(tmp_path) == manifest


def test_a_build_that_was_stopped_goes_on(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, Drawing(fails_at=6))
    assert not Manifest.load(tmp_path).is_complete
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["train-000000.tar", "train-000000.tar.index.json"]
    second = Drawing()
    resumed = build(tmp_path, second)
    assert second.drawn == [4, 5, 6, 7, 8, 9, 20, 21]
    assert resumed == build(tmp_path / "unbroken", Drawing())


def test_only_a_shard_that_changed_is_made_again(tmp_path) -> None:
    first = build(tmp_path, Drawing())
    path = tmp_path / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    again = Drawing()
    assert build(tmp_path, again) == first
    assert again.drawn == [4, 5, 6, 7]


def test_other_settings_need_another_folder(tmp_path) -> None:
    build(tmp_path, Drawing())
    with pytest.raises(UserError, match=r"other settings \(size\)"):
        build(tmp_path, Drawing(), size=32)


def test_the_manifest_can_be_read_by_people(tmp_path) -> None:
    build(tmp_path, Drawing())
    record = json.loads((tmp_path / "manifest.json").read_text())
    assert record["splits"] == {"train": 7, "test": 2}
    assert {len(shard["sha256"]) for shard in record["shards"]} == {64}
    assert Manifest.load(tmp_path / "nowhere") is None


def test_another_programs_manifest_is_not_taken_for_ours(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": []}')
    assert Manifest.load(tmp_path) is None
