"""Words drawn as pictures, without end: the "rendered text" of Scale-RAE's data mix (section 2).

In: (seed, index). Out: one to four words in one colour on another, with a caption that quotes them and the truth in the
metadata, so that a text recogniser can score what a generator writes. Held out for testing: a tenth of the words, of
the typefaces and of the colour pairs.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from raekit.data.captions import with_article
from raekit.data.palette import PALETTE, contrasting
from raekit.data.sample import ENDLESS, Sample, Source, SourceConfig
from raekit.data.words import WORDS, is_held_out
from raekit.errors import UserError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

TEXT_STREAM = 4
"""Keeps the chance of words apart from that of other things made with the same seed."""

LUMINANCE_GAP = 85.0
"""Least difference of luminance, of 255, between letters and background: below it people cannot read the word."""

MARGIN = 0.06
"""Free border, as a share of the side."""

_UNLETTERED = ("symbol", "dingbat", "d050000l", "emoji", "keyboard", "math", "icon", "awesome", "barcode", "braille")
"""Parts of the names of fonts that claim the Latin letters and draw something else."""

_SYSTEM_FOLDERS = {
    "linux": ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts"),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts",),
}


class RenderedText(Source):
    """Pictures of words; see the module's docstring."""

    is_mirrorable = False

    class Config(SourceConfig):
        """What is written, and how large the picture is."""

        name: Literal["rendered_text"] = "rendered_text"
        size: int = Field(128, ge=32, le=2048)
        """Height and width in pixels."""
        max_words: int = Field(2, ge=1, le=4)
        """Most words in one picture."""
        split: Literal["train", "test"] = "train"
        """"train" leaves the held-out words, typefaces and colour pairs out; "test" draws held-out words."""
        fonts: Path | Literal["system", "builtin"] = "system"
        """A folder of .ttf/.otf files, those of this computer ("builtin" if it has none), or Pillow's own face,
        with which pictures are the same on every computer."""
        words: Path | None = None
        """A text file of words, one a line; by default a list of our own."""
        seed: int = 0
        """Another seed is another endless set."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.words = [word for word in _read_words(config.words) if is_held_out(word) == (config.split == "test")]
        if not self.words:
            raise UserError(f"words {config.words}: no word is left for split {config.split!r}; give a longer list")
        self.fonts = _find_fonts(config.fonts, config.split)
        """Paths of the typefaces; empty for the built-in one."""

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        cfg = self.config
        generator = np.random.default_rng([TEXT_STREAM, cfg.seed, index])
        lines = [str(w) for w in generator.choice(self.words, int(generator.integers(1, cfg.max_words + 1)), False)]
        lines = [_cased(word, case) for word, case in zip(lines, generator.integers(0, 3, len(lines)), strict=True)]
        if len(lines) > 1 and generator.random() < 0.3:
            lines = [" ".join(lines[:2]), *lines[2:]]
        ink, ground = self._colours(generator)
        font = self.fonts[int(generator.integers(len(self.fonts)))] if self.fonts else None
        image = draw_lines(lines, cfg.size, font, ink, ground, generator)
        text = " ".join(lines)
        return Sample(image, *_described(text, ink, ground, f"{index:09d}", font, cfg.split))

    def _colours(self, generator: np.random.Generator) -> tuple[str, str]:
        """Letters and background, far enough apart in luminance."""
        while True:
            ground = str(generator.choice(list(PALETTE)))
            ink = str(generator.choice(contrasting(ground, LUMINANCE_GAP)))
            if self.config.split == "test" or not is_held_out(f"{ink} on {ground}"):
                return ink, ground


def _described(
    text: str, ink: str, ground: str, key: str, font: str | None, split: str
) -> tuple[str, str, dict[str, Any]]:
    """Caption, key and metadata of a picture of ``text``."""
    noun = "words" if " " in text else "word"
    alternatives = [
        f'a sign that says "{text}"',
        f'"{text}" written in {ink}',
        f'{with_article(ground)} background with the {noun} "{text}"',
        f'"{text}"',
    ]
    metadata = {"alternatives": alternatives, "text": text, "ink": ink, "ground": ground, "split": split}
    metadata["font"] = Path(font).stem if font else "builtin"
    return f'the {noun} "{text}" in {ink} letters on {with_article(ground)} background', key, metadata


def draw_lines(
    lines: list[str], size: int, font: str | None, ink: str, ground: str, generator: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``[size, size, 3]`` with the lines as large as fits, times a random 0.7 to 1, somewhere inside the margins."""
    room = size * (1 - 2 * MARGIN)
    reference = _face(font, 64)
    boxes = [reference.getbbox(line) for line in lines]
    widest = max(box[2] - box[0] for box in boxes)
    line_height = 1.15 * (max(box[3] for box in boxes) - min(box[1] for box in boxes))
    largest = 64 * min(room / widest, room / (line_height * len(lines)), 1.2)
    points = max(8, int(largest * generator.uniform(0.7, 1.0)))
    face = _face(font, points)
    boxes = [face.getbbox(line) for line in lines]
    pitch = line_height * points / 64
    width = max(box[2] - box[0] for box in boxes)
    left = size * MARGIN + generator.random() * max(0.0, room - width)
    top = size * MARGIN + generator.random() * max(0.0, room - pitch * len(lines))
    picture = Image.new("RGB", (size, size), PALETTE[ground])
    pen = ImageDraw.Draw(picture)
    highest = min(box[1] for box in boxes)
    for row, (line, box) in enumerate(zip(lines, boxes, strict=True)):
        indent = (width - (box[2] - box[0])) / 2 - box[0]
        pen.text((left + indent, top + row * pitch - highest), line, fill=PALETTE[ink], font=face)
    return np.asarray(picture)


def _cased(word: str, case: int) -> str:
    return (word, word.capitalize(), word.upper())[case]


@lru_cache(maxsize=512)
def _face(path: str | None, points: int) -> Font:
    return ImageFont.load_default(points) if path is None else ImageFont.truetype(path, points)


def _read_words(path: Path | None) -> list[str]:
    if path is None:
        return list(WORDS)
    try:
        lines = path.expanduser().read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"words {path}: cannot be read ({error}); give a text file of words, one a line") from None
    return [line.strip() for line in lines if line.strip()]


def _find_fonts(choice: Path | str, split: str) -> list[str]:
    """Font files that draw letters, sorted; a tenth of the typefaces is kept for testing where there are many."""
    if choice == "builtin":
        return []
    folders = _SYSTEM_FOLDERS.get(sys.platform, ()) if choice == "system" else (str(choice),)
    found = sorted(str(path) for folder in folders for path in _font_files(Path(os.path.expanduser(folder))))
    usable = [path for path in found if _draws_letters(path)]
    if not usable and choice != "system":
        raise UserError(f"fonts {choice}: holds no .ttf or .otf file that draws letters; give another folder")
    kept = [path for path in usable if not is_held_out(Path(path).stem.split("-")[0])]
    return kept if split == "train" and kept else usable


def _font_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")]


def _draws_letters(path: str) -> bool:
    """Whether the name promises letters, and two different letters really look different."""
    if any(part in Path(path).name.lower() for part in _UNLETTERED):
        return False
    try:
        face = ImageFont.truetype(path, 24)
        return bytes(face.getmask("A")) != bytes(face.getmask("g")) and face.getbbox("Ag")[2] > 0
    except OSError:
        return False
