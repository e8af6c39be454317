from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from raekit.data.folder import Folder
from raekit.data.sample import BadSample
from raekit.errors import UserError


def draw(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)


def open_folder(path: Path) -> Folder:
    return Folder(Folder.Config(path=path))


def test_captions_lie_beside_the_pictures(tmp_path) -> None:
    draw(tmp_path / "b.png")
    draw(tmp_path / "a.JPG")
    (tmp_path / "b.txt").write_text("a red square\n")
    source = open_folder(tmp_path)
    assert [source[i].key for i in range(2)] == ["a.JPG", "b.png"]
    assert [source[i].caption for i in range(2)] == ["", "a red square"]
    assert source[0].label is None


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path) -> None:
    draw(tmp_path / "tabby_cat" / "1.png")
    draw(tmp_path / "dog" / "deep" / "1.png")
    source = open_folder(tmp_path)
    assert source.classes == ["dog", "tabby_cat"]
    assert [(source[i].label, source[i].caption) for i in range(2)] == [(0, "dog"), (1, "tabby cat")]


def test_an_unreadable_picture_is_a_bad_sample(tmp_path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    source = open_folder(tmp_path)
    assert source[0].image.shape == (4, 4, 3)
    with pytest.raises(BadSample, match=r"b\.png"):
        source[1]
    (tmp_path / "a.png").unlink()
    with pytest.raises(BadSample, match=r"a\.png"):
        source[0]


def test_a_folder_without_pictures_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="holds no"):
        open_folder(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        open_folder(tmp_path / "x")
