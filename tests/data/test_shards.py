from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raekit.data.builder import Drawn, Manifest, build_shards, split_into_parts
from raekit.data.sample import BadSample
from raekit.data.shards import Shards
from raekit.data.tar import TarWriter
from raekit.errors import UserError


def open_shards(path: Path, split: str | None = None) -> Shards:
    return Shards(Shards.Config(path=path, split=split))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_any_sample_in_any_order(write_shard, tmp_path) -> None:
    write_shard("a.tar", range(4))
    write_shard("b.tar", range(4, 7))
    source = open_shards(tmp_path)
    assert len(source) == 7
    for index in (6, 0, 5, 3):
        sample = source[index]
        assert sample.image[0, 0].tolist() == [index] * 3
        assert sample.caption == f"number {index}"
        assert sample.captions[1:] == [f"the {index}"]
        assert sample.key == f"s{index:03d}"
    assert not source.is_endless


def test_one_tar_alone(write_shard) -> None:
    assert len(open_shards(write_shard("a.tar", range(3)))) == 3


def test_a_split_is_picked_by_what_each_sample_says(write_shard, tmp_path) -> None:
    write_shard("a.tar", range(3))
    write_shard("b.tar", range(3, 5), split="test")
    assert [sample.caption for sample in (open_shards(tmp_path, "test")[i] for i in range(2))] == [
        "number 3",
        "number 4",
    ]
    with pytest.raises(UserError, match="no pictures of split 'validation'"):
        open_shards(tmp_path, "validation")


def built(folder: Path) -> Path:
    def draw(item: int) -> Drawn:
        return Drawn(f"k{item}", png(item), {"caption": str(item)}, str(item), ".png")

    parts = split_into_parts({"train": range(5), "test": range(5, 8)}, samples_per_shard=2)
    build_shards(folder, Manifest("numbers", {}), parts, draw)
    return folder


def test_a_manifest_tells_the_splits(tmp_path) -> None:
    """Samples that say nothing of their split are found by their shard's."""
    folder = built(tmp_path / "set")
    test = open_shards(folder, "test")
    assert [test[i].caption for i in range(len(test))] == ["5", "6", "7"]
    assert len(open_shards(folder)) == 8
    with pytest.raises(UserError, match="splits there: test, train"):
        open_shards(folder, "held_out")


def test_an_unfinished_build_is_refused(tmp_path) -> None:
    folder = built(tmp_path / "set")
    manifest = Manifest.load(folder)
    manifest.is_complete = False
    manifest.save(folder)
    with pytest.raises(UserError, match="not finished"):
        open_shards(folder)


def test_a_missing_shard_is_named(tmp_path) -> None:
    folder = built(tmp_path / "set")
    (folder / "train-000001.tar").unlink()
    with pytest.raises(UserError, match=r"train-000001\.tar.*no such file"):
        open_shards(folder)


def test_a_shard_that_was_cut_short_is_refused_at_opening(write_shard) -> None:
    path = write_shard("a.tar")
    open_shards(path)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(UserError, match=r"a\.tar.*cut short.*prepare it again"):
        open_shards(path)


def test_an_unreadable_picture_is_a_bad_sample_among_good_ones(write_shard) -> None:
    source = open_shards(write_shard("a.tar", range(4), broken=(2,)))
    assert source[1].caption == "number 1"
    with pytest.raises(BadSample, match=r"a\.tar:s002"):
        source[2]
    assert source.metadata(2)["caption"] == "number 2"


@pytest.mark.parametrize(
    ("sidecars", "caption", "label"),
    [
        ({".txt": b" a cat \n"}, "a cat", None),
        ({".cls": b"7"}, "", 7),
        ({".json": json.dumps({"text": "a dog"}).encode()}, "a dog", None),
        ({".json": json.dumps({"url": "u"}).encode(), ".txt": b"a fox"}, "a fox", None),
        ({".json": json.dumps({"caption": "a bee", "label": 2}).encode(), ".cls": b"5"}, "a bee", 2),
        ({".json": json.dumps({"label": "cat"}).encode(), ".cls": b"5"}, "", 5),
        ({".json": json.dumps({"captions": ["a", "b"], "label": "cat"}).encode()}, "a", None),
        ({}, "", None),
    ],
)
def test_sidecars_of_other_webdatasets(tmp_path, sidecars, caption: str, label: int | None) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        tar.add("000/x", {".png": png(1), **sidecars})
        tar.add("readme", {".md": b"no picture"})
    source = open_shards(tmp_path)
    assert len(source) == 1
    assert (source[0].caption, source[0].label) == (caption, label)


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff"])
def test_broken_metadata_is_a_bad_sample(tmp_path, text: bytes) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        tar.add("x", {".png": png(1), ".json": text})
    with pytest.raises(BadSample, match=r"a.tar:x.json: (is not JSON|holds a list)"):
        open_shards(tmp_path)[0]


def test_a_pattern_names_the_shards(write_shard, tmp_path) -> None:
    for number in range(3):
        write_shard(f"web-{number:03d}.tar", range(2 * number, 2 * number + 2))
    assert open_shards(tmp_path / "web-{001..002}.tar").keys == ["s002", "s003", "s004", "s005"]
    assert len(open_shards(tmp_path / "web-*.tar")) == 6
    with pytest.raises(UserError, match=r"web-003\.tar: no such file"):
        open_shards(tmp_path / "web-{002..003}.tar")


def test_keys_that_begin_anew_in_each_tar_are_told_apart(write_shard, tmp_path) -> None:
    write_shard("a.tar", range(2))
    write_shard("b.tar", range(2))
    assert open_shards(tmp_path).keys == ["a/s000", "a/s001", "b/s000", "b/s001"]


def test_fields_of_other_names(tmp_path) -> None:
    record = {"caption": "short", "long": ["a long one", "a longer one"]}
    with TarWriter(tmp_path / "a.tar") as tar:
        tar.add("x", {".0.png": png(1), ".1.png": png(2), ".json": json.dumps(record).encode()})
    (sample,) = Shards(Shards.Config(path=tmp_path, image="1.png", caption="long"))
    assert sample.image[0, 0, 0] == 2
    assert sample.captions == ["a long one", "a longer one"]


def test_samples_without_a_picture_are_left_out_and_counted(tmp_path, caplog) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        tar.add("x", {".png": png(1)})
        for number in range(3):
            tar.add(f"y{number}", {".svg": b"<svg/>", ".txt": b"a drawing"})
    with caplog.at_level(logging.WARNING):
        assert open_shards(tmp_path).keys == ["x"]
    assert "3 of 4 samples hold no picture and are left out: 3 .svg (render the vector drawings first)" in caplog.text


def test_a_folder_without_tars_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="raekit prepare data"):
        open_shards(tmp_path)
