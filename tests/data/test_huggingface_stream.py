"""Streams of Parquet files: endless, exact from any position, bookmarked, shared out over lanes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from raekit.data import huggingface_stream
from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.huggingface_stream import HuggingFaceStream
from raekit.data.loader import Loader
from raekit.errors import UserError


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    """Three Parquet files of five rows; pictures are told apart by their width."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("parquet")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    for file in range(3):
        numbers = range(5 * file, 5 * file + 5)
        columns = {
            "image": [Image.new("RGB", (8 + n, 8)) for n in numbers],
            "text": [f"number {n}" for n in numbers],
        }
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"part-{file}.parquet")
    return folder


@pytest.fixture(autouse=True)
def every_block_has_a_bookmark(monkeypatch) -> None:
    monkeypatch.setattr(huggingface_stream, "BOOKMARK_ROWS", 1)


def stream(path: Path, marks: Path, **settings: object) -> HuggingFaceStream:
    config = {"path": str(path), "bookmarks": marks, "shuffle_buffer": 4, **settings}
    return HuggingFaceStream(HuggingFaceStream.Config.model_validate(config))


def captions(source: HuggingFaceStream, visits: range) -> list[str]:
    return [source[visit].caption for visit in visits]


def test_every_row_comes_once_a_round_and_rounds_follow_each_other(parquet: Path, tmp_path: Path) -> None:
    source = stream(parquet, tmp_path)
    found = captions(source, range(60))  # four rounds of 15 rows, in blocks of 4
    assert sorted(found) == sorted(4 * [f"number {n}" for n in range(15)])
    assert sorted(found[:4]) == sorted(f"number {n}" for n in range(4)) and found[:15] != found[15:30]
    assert source[0].image.shape[1] == 8 + int(source[0].caption.split()[1])
    assert source.is_endless and not source.is_drawn


def test_it_goes_on_exactly_with_and_without_bookmarks(parquet: Path, tmp_path: Path) -> None:
    whole = captions(stream(parquet, tmp_path / "marks"), range(50))
    assert len(list((tmp_path / "marks").rglob("*.json"))) >= 10
    for marks in (tmp_path / "marks", tmp_path / "none"):
        for start in (37, 6, 15):
            assert captions(stream(parquet, marks), range(start, 50)) == whole[start:]


def test_a_bookmark_saves_reading_from_the_beginning(parquet: Path, tmp_path: Path, monkeypatch) -> None:
    captions(stream(parquet, tmp_path), range(13))
    source = stream(parquet, tmp_path)
    loaded = []
    table = source._lanes[0]._table
    monkeypatch.setattr(table, "load_state_dict", lambda state: loaded.append(state))
    source._lanes[0]._go_to(8)
    next(source._lanes[0]._rows)
    assert loaded[0] != source._lanes[0]._begin


def test_lanes_share_out_the_files_and_ranks_change_nothing(parquet: Path, tmp_path: Path) -> None:
    source = {"name": "huggingface_stream", "path": str(parquet), "bookmarks": tmp_path, "shuffle_buffer": 4}
    settings = {"mixture": [{**source, "lanes": 3, "lane_run": 2}], "image_size": 8}

    def batches(rank: int = 0, world: int = 1, start: int = 0) -> list[list[str]]:
        data = build_dataset(DataConfig.model_validate(settings))
        loader = Loader(data, 6, rank=rank, world=world, start_position=start)
        return [batch.captions for batch in islice(loader, 5)]

    alone, third = batches(), batches(rank=2, world=3)
    assert [caption for batch in third for caption in batch] == [c for batch in alone for c in batch[4:]]
    assert all(int(caption.split()[1]) >= 10 for batch in third for caption in batch)
    assert batches(start=12)[:3] == alone[2:]


def test_mistakes_are_one_sentence(parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lanes: 4, but .* has only 3 files"):
        stream(parquet, tmp_path, lanes=4)
    with pytest.raises(UserError, match="image 'picture': .* has no such column"):
        stream(parquet, tmp_path, image="picture")
    with pytest.raises(UserError, match="split 'test' cannot be read"):
        stream(parquet, tmp_path, split="test")
