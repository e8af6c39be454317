"""Any picture becomes the same square: on white, cropped at the centre, three channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raekit.data.picture import read_square, square
from raekit.data.sample import BadSample

RED = (255, 0, 0)


def test_files_images_arrays_and_tensors_are_one_picture(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    array = np.asarray(picture)
    chw = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for same in (str(tmp_path / "a.png"), tmp_path / "a.png", picture, array, chw, chw / 255, (chw / 255).double()):
        assert torch.equal(read_square(same, 8), chw)


def test_the_centre_is_kept_and_the_sides_are_cut() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = RED
    assert (square(wide, 4).permute(1, 2, 0) == torch.tensor(RED)).all()


def test_stretched_nothing_is_cut() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 8:] = RED
    stretched = square(wide, 6, "stretch").permute(1, 2, 0)
    assert stretched.shape == (6, 6, 3)
    assert (stretched[:, 0] == 0).all() and (stretched[:, -1] == torch.tensor(RED)).all()
    assert torch.equal(read_square(wide, 6, "stretch").permute(1, 2, 0), stretched)


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)),
        Image.new("LA", (4, 4), (0, 0)),
        Image.new("CMYK", (4, 4), (0, 0, 0, 0)),
        Image.new("1", (1, 1), 1),
        Image.fromarray(np.full((4, 4), 65535, np.uint16)),
        Image.new("F", (3, 3), 1.0),
    ],
    ids=lambda picture: picture.mode,
)
def test_modes_that_mean_white_are_white(picture: Image.Image) -> None:
    assert (read_square(picture, 6) == 255).all()


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<svg xmlns='x'/>")
    with pytest.raises(BadSample, match="vector drawing"):
        read_square(tmp_path / "a.png", 8)
    with pytest.raises(BadSample, match=r"absent.png: cannot be read \(No such file"):
        read_square(tmp_path / "absent.png", 8)
    with pytest.raises(BadSample, match="NaN"):
        read_square(torch.full((3, 4, 4), float("nan")), 8)
