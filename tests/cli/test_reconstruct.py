"""``raekit reconstruct``: a sheet, a figure per picture, and the unreadable ones counted."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_data
import tiny_generator
from cli.verbs import run
from raekit.cli.reconstruct import reconstruct
from raekit.errors import UserError


def test_the_sheet_is_written_and_bad_pictures_are_counted(tmp_path: Path) -> None:
    tiny_generator.latent_space(tmp_path / "autoencoder")
    good = tiny_data.pictures(tmp_path / "pictures") / "red_circle.png"
    (tmp_path / "bad.png").write_bytes(b"")
    out = tmp_path / "out/sheet.png"
    text = run(reconstruct, good, tmp_path / "bad.png", "--model", tmp_path / "autoencoder", "--out", out)
    assert out.is_file()
    assert f"{tmp_path / 'bad.png'}: unreadable, left out" in text
    assert f"wrote {out} (1 unreadable pictures left out)" in text


def test_a_wrong_model_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        run(reconstruct, tmp_path / "x.png", "--model", tmp_path / "absent")
