from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import ImageFont

from raekit.data.fonts import extent, face, find_fonts
from raekit.data.words import is_held_out
from raekit.errors import UserError


def test_extents_scale_with_the_size() -> None:
    left, top, right, bottom = extent(None, "Quick")
    ink = face(None, 200).getbbox("Quick")
    assert [value / 200 for value in ink] == pytest.approx([left, top, right, bottom], abs=0.05)
    assert extent(None, "Quick", 200) == tuple(value / 200 for value in ink)
    assert 0 <= top < bottom and right > 2


def test_a_folder_without_fonts_is_refused(tmp_path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(UserError, match=r"no \.ttf"):
        find_fonts(tmp_path, "train")


def test_the_builtin_face_needs_no_file() -> None:
    assert find_fonts("builtin", "train") == []
    assert isinstance(face(None, 20), ImageFont.FreeTypeFont)


def test_a_tenth_of_the_typefaces_is_kept_for_testing(tmp_path) -> None:
    found = find_fonts("system", "test")
    if not found:
        pytest.skip("no fonts on this computer")
    held_out = next(f"face{n}" for n in range(100) if is_held_out(f"face{n}"))
    usual = next(f"face{n}" for n in range(100) if not is_held_out(f"face{n}"))
    for name in (held_out, usual, "OpenSymbol"):
        shutil.copy(found[0], tmp_path / f"{name}-Bold.ttf")
    assert [Path(path).stem for path in find_fonts(tmp_path, "train")] == [f"{usual}-Bold"]
    assert len(find_fonts(tmp_path, "test")) == 2
