from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raekit.data.huggingface import HuggingFace
from raekit.data.sample import BadSample
from raekit.errors import UserError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The package, with its caches below the test's own folder."""
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    module.disable_progress_bars()
    return module


@pytest.fixture
def table(hub):
    """Five pictures told apart by their width, in two classes."""
    features = {
        "image": hub.Image(),
        "text": hub.Value("string"),
        "label": hub.ClassLabel(names=["cat", "big_dog"]),
        "id": hub.Value("int64"),
    }
    columns = {
        "image": [Image.new("RGB", (4 + n, 4)) for n in range(5)],
        "text": [f"number {n}" for n in range(5)],
        "label": [n % 2 for n in range(5)],
        "id": range(5),
    }
    return hub.Dataset.from_dict(columns, features=hub.Features(features))


def open_set(path: Path | str, **settings: object) -> HuggingFace:
    return HuggingFace(HuggingFace.Config(path=str(path), **settings))


@pytest.mark.parametrize("form", ["saved", "saved with splits", "parquet"])
def test_rows_are_samples(table, tmp_path, form: str) -> None:
    path = tmp_path / "set"
    if form == "saved":
        table.save_to_disk(path)
    elif form == "saved with splits":
        import datasets

        datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(path)
    else:
        path.mkdir()
        table.to_parquet(path / "train.parquet")
    source = open_set(path)
    assert len(source) == 5
    for index in (4, 0, 3):
        sample = source[index]
        assert sample.image.shape == (4, 4 + index, 3)
        assert (sample.caption, sample.label) == (f"number {index}", index % 2)
    assert source.classes == ["cat", "big_dog"]


def test_without_captions_the_class_is_one(table, tmp_path) -> None:
    table.remove_columns("text").save_to_disk(tmp_path)
    assert [open_set(tmp_path)[n].caption for n in range(2)] == ["cat", "big dog"]


def test_columns_are_settings(hub, table, tmp_path) -> None:
    several = [[f"{n} a", f"{n} b"] for n in range(5)]
    renamed = table.rename_columns({"image": "picture", "label": "kind"}).add_column("said", several)
    renamed.save_to_disk(tmp_path)
    sample = open_set(tmp_path, image="picture", caption="said", label="kind")[3]
    assert (sample.captions, sample.label, sample.image.shape) == (["3 a", "3 b"], 1, (4, 7, 3))


def test_broken_pictures_and_arrays_with_nan_are_bad_samples(hub, tmp_path) -> None:
    cells = [{"bytes": b"<svg/>", "path": None}, None]
    hub.Dataset.from_dict({"image": cells}, features=hub.Features({"image": hub.Image()})).save_to_disk(tmp_path / "a")
    source = open_set(tmp_path / "a")
    for index, sentence in enumerate(("row 0: is a vector drawing", "row 1: holds no picture")):
        with pytest.raises(BadSample, match=sentence):
            source[index]
    arrays = np.full((3, 2, 8, 9), 0.5)
    arrays[1, 0, 2, 2] = np.nan
    columns = {"image": [arrays[0, 0].tolist(), arrays[1].tolist(), [[1.0], [1.0, 2.0]]]}
    hub.Dataset.from_dict({"image": columns["image"][:1]}).save_to_disk(tmp_path / "b")
    assert (open_set(tmp_path / "b")[0].image == 128).all()
    for name, cell, sentence in (
        ("c", arrays[1].transpose(1, 2, 0).tolist(), "NaN"),
        ("d", columns["image"][2], "form"),
    ):
        hub.Dataset.from_dict({"image": [cell]}).save_to_disk(tmp_path / name)
        with pytest.raises(BadSample, match=sentence):
            open_set(tmp_path / name)[0]


def test_pictures_may_lie_beside_each_other_in_a_folder(hub, tmp_path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / "train" / name / "1.png")
    source = open_set(tmp_path / "set")
    assert [(sample.caption, sample.label) for sample in (source[0], source[1])] == [("cat", 0), ("dog", 1)]
    (tmp_path / "set" / "train" / "dog" / "1.png").unlink()
    with pytest.raises(BadSample, match=r"1\.png cannot be read \(No such file"):
        source[1]


def test_mistakes_are_one_sentence(hub, table, tmp_path) -> None:
    table.train_test_split(0.4, seed=0).save_to_disk(tmp_path / "a")
    for settings, sentence in (
        ({"path": tmp_path / "a", "split": "val"}, "split 'val' cannot be read .known splits: train, test"),
        ({"path": tmp_path / "a", "image": "img"}, r"image 'img': .* no such column; known: \['image', 'text'"),
        ({"path": tmp_path / "a", "caption": "alt"}, "caption 'alt'"),
        ({"path": "nobody/nothing"}, "no such folder, and not to be had from the hub .*check the name and the network"),
    ):
        with pytest.raises(UserError, match=sentence):
            open_set(**settings)


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the datasets package; pip install 'raekit\[datasets\]'"):
        open_set(tmp_path)
