"""Pictures through a latent space: sheets, PSNR, and pictures that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_data
import tiny_generator
from raekit.errors import UserError
from raekit.reconstruct import reconstruct_files


def test_unreadable_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    rae = tiny_generator.latent_space(tmp_path / "autoencoder")
    good = sorted(tiny_data.pictures(tmp_path / "pictures").glob("*.png"))[:2]
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    result = reconstruct_files(rae, [good[0], tmp_path / "bad.png", tmp_path / "absent.png", good[1]])
    assert result.paths == good
    assert [path.name for path in result.skipped] == ["bad.png", "absent.png"]
    assert len(result.psnr) == 2 and all(0 < value < 100 for value in result.psnr)
    assert result.sheet.width >= 2 * rae.output_size and result.sheet.height >= 2 * rae.output_size


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    rae = tiny_generator.latent_space(tmp_path / "autoencoder")
    with pytest.raises(UserError, match="none of 1 can be read"):
        reconstruct_files(rae, [tmp_path / "absent.png"])
