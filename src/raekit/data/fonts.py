"""Typefaces that draw letters, and how large a line of text is in them.

In: a folder, the fonts of this computer, or Pillow's own face. Out: font files that are usable for words, faces at any
size, and the extent of a line per point, from which layouts are planned before anything is drawn.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from raekit.data.words import is_held_out
from raekit.errors import UserError

Face = ImageFont.FreeTypeFont | ImageFont.ImageFont

Extent = tuple[float, float, float, float]
"""Left, top, right and bottom of the ink of a line, in ems from where the pen starts."""

REFERENCE = 64
"""Points at which letters are measured before their size is known."""

_UNLETTERED = ("symbol", "dingbat", "d050000l", "emoji", "keyboard", "math", "icon", "awesome", "barcode", "braille")
"""Parts of the names of fonts that claim the Latin letters and draw something else."""

_SYSTEM_FOLDERS = {
    "linux": ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts"),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts",),
}


def find_fonts(choice: Path | str, split: str) -> list[str]:
    """Font files that draw letters, sorted; a tenth of the typefaces is kept for testing where there are many.

    Args:
        choice: a folder, "system", or "builtin", which gives an empty list: Pillow's own face.
        split: "train" leaves the held-out typefaces out.

    Raises:
        UserError: a folder without any.
    """
    if choice == "builtin":
        return []
    folders = _SYSTEM_FOLDERS.get(sys.platform, ()) if choice == "system" else (str(choice),)
    found = sorted(str(path) for folder in folders for path in _font_files(Path(os.path.expanduser(folder))))
    usable = [path for path in found if _draws_letters(path)]
    if not usable and choice != "system":
        raise UserError(f"fonts {choice}: holds no .ttf or .otf file that draws letters; give another folder")
    kept = [path for path in usable if not is_held_out(Path(path).stem.split("-")[0])]
    return kept if split == "train" and kept else usable


@lru_cache(maxsize=512)
def face(path: str | None, points: int) -> Face:
    """A typeface at a size in pixels per em; ``None`` is Pillow's own.

    Letters are set by Pillow's own simple rules, so that pictures do not depend on the libraries a computer has.
    """
    if path is None:
        builtin = ImageFont.load_default(points)
        if isinstance(builtin, ImageFont.FreeTypeFont):
            return builtin.font_variant(layout_engine=ImageFont.Layout.BASIC)
        return builtin
    return ImageFont.truetype(path, points, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1 << 16)
def extent(path: str | None, line: str, points: int = REFERENCE) -> Extent:
    """Where the ink of a line lies; hinting makes small letters up to a tenth wider than large ones, in ems."""
    left, top, right, bottom = face(path, points).getbbox(line)
    return left / points, top / points, right / points, bottom / points


def _font_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")]


def _draws_letters(path: str) -> bool:
    """Whether the name promises letters, and two different letters really look different."""
    if any(part in Path(path).name.lower() for part in _UNLETTERED):
        return False
    try:
        tried = ImageFont.truetype(path, 24)
        return bytes(tried.getmask("A")) != bytes(tried.getmask("g")) and tried.getbbox("Ag")[2] > 0
    except OSError:
        return False
