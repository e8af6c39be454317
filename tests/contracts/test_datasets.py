"""Every registered source keeps the contract: the same index is the same sample, as uint8 pixels with a caption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny_data
from raekit.data import DATASETS
from raekit.data.sample import Sample, Source
from raekit.data.tar import TarWriter


def shards(folder: Path) -> dict[str, object]:
    """A tar of the drawn pictures; scenes can be composed of them too."""
    pictures = tiny_data.pictures(folder / "pictures")
    path = folder / "pictures.tar"
    with TarWriter(path) as tar:
        for picture in sorted(pictures.glob("*.png")):
            caption = picture.with_suffix(".txt").read_bytes()
            tar.add(picture.stem, {".png": picture.read_bytes(), ".txt": caption})
    return {"path": path}


def streamed_shards(folder: Path) -> dict[str, object]:
    return {"shards": [str(shards(folder)["path"])]}


def folder(folder: Path) -> dict[str, object]:
    return {"path": tiny_data.pictures(folder / "pictures")}


def rendered_text(folder: Path) -> dict[str, object]:
    return {"fonts": "builtin", "size": 48}


def jsonl(folder: Path) -> dict[str, object]:
    pictures = tiny_data.pictures(folder / "pictures")
    path = folder / "pictures.jsonl"
    lines = [{"image": f"pictures/{p.name}", "caption": p.stem} for p in sorted(pictures.glob("*.png"))]
    path.write_text("\n".join(map(json.dumps, lines)))
    return {"path": path}


def huggingface(folder: Path) -> dict[str, object]:
    datasets = pytest.importorskip("datasets")
    paths = sorted(tiny_data.pictures(folder / "pictures").glob("*.png"))
    columns = {"image": [str(path) for path in paths], "caption": [path.stem for path in paths]}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder / "saved")
    return {"path": str(folder / "saved")}


def huggingface_stream(folder: Path) -> dict[str, object]:
    return {**huggingface(folder), "shuffle_buffer": 4, "bookmarks": folder / "bookmarks"}


SETTINGS = {
    "shards": shards,
    "streamed_shards": streamed_shards,
    "folder": folder,
    "jsonl": jsonl,
    "huggingface": huggingface,
    "huggingface_stream": huggingface_stream,
    "rendered_text": rendered_text,
}
ELSEWHERE = {"scenes"}
"""Needs sprites with labels: ``tests/data/test_scenes.py`` builds some and checks the same things."""


def test_every_source_is_checked() -> None:
    assert set(DATASETS) == SETTINGS.keys() | ELSEWHERE


@pytest.fixture(params=sorted(SETTINGS))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    name = request.param
    built: Source = DATASETS.build(DATASETS[name].Config(**SETTINGS[name](tmp_path)))
    return built


def test_the_same_index_is_the_same_sample(source: Source) -> None:
    for index in (0, 3):
        first, second = source[index], source[index]
        assert isinstance(first, Sample)
        assert np.array_equal(first.image, second.image) and first.captions == second.captions
    assert source[0].key != source[3].key


def test_pixels_are_uint8_with_colour_and_perhaps_alpha(source: Source) -> None:
    image = source[1].image
    assert image.dtype == np.uint8
    assert image.ndim == 3 and image.shape[2] in (3, 4)


def test_a_copy_in_another_process_would_read_the_same(source: Source) -> None:
    """Threads and processes open sources anew: nothing about a sample may hang on what was read before it."""
    name = source.config.name
    again: Source = DATASETS.build(DATASETS[name].Config.model_validate_json(source.config.model_dump_json()))
    last = [again[index] for index in (3, 1)]
    assert [source[index].key for index in (3, 1)] == [sample.key for sample in last]
    assert np.array_equal(source[1].image, last[1].image)


def test_captions_are_words(source: Source) -> None:
    assert source[2].captions[0].strip()
    assert len(source) > 3
