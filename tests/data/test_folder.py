from __future__ import annotations

import logging
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


def test_links_are_followed_but_never_in_a_circle(tmp_path) -> None:
    draw(tmp_path / "elsewhere" / "1.png")
    root = tmp_path / "set"
    draw(root / "dog" / "2.png")
    (root / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "dog" / "up").symlink_to(root, target_is_directory=True)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = open_folder(root)
    assert source.files == ["cat/1.png", "dog/2.png", "dog/gone.png"]
    with pytest.raises(BadSample, match="No such file"):
        source[2]


def test_hidden_files_and_vector_drawings_are_left_out(tmp_path, caplog) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / ".thumbnails" / "b.png")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    for name in ("c.svg", "d.SVG"):
        (tmp_path / name).write_text("<svg/>")
    with caplog.at_level(logging.WARNING):
        assert open_folder(tmp_path).files == ["a.png"]
    assert "2 vector drawings (SVG) are left out" in caplog.text


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
