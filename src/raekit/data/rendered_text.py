"""Words drawn as pictures, without end: the "rendered text" of Scale-RAE's data mix (section 2).

In: (seed, index). Out: words in a line, a paragraph, on a poster, tilted or on a sign, over a plain, graded or
picture-like ground, with a caption that quotes them and the truth in the metadata, so that a text recogniser can score
what a generator writes or a decoder keeps. Letters always differ from what is behind them in brightness, and are never
too small to be read: where words do not fit, fewer or shorter ones are drawn. Held out for testing: a tenth of the
words, of the typefaces and of the colour pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from raekit.data.captions import with_article
from raekit.data.fonts import find_fonts
from raekit.data.palette import PALETTE, contrasting
from raekit.data.sample import Endless, Sample, SourceConfig
from raekit.data.text_drawing import Colours, draw
from raekit.data.text_grounds import GROUNDS, MAX_COLOURS, Ground, companions
from raekit.data.text_layouts import KINDS, Block, Kind, Layout, Page, plan
from raekit.data.words import WORDS, is_held_out
from raekit.errors import UserError

TEXT_STREAM = 4
"""Keeps the chance of words apart from that of other things made with the same seed."""

LUMINANCE_GAP = 85.0
"""Least difference of luminance, of 255, between letters and what is behind them: below it people cannot read them."""

_FEWEST: dict[Kind, int] = {"line": 1, "paragraph": 3, "poster": 2, "tilted": 1, "sign": 1}
_MOST: dict[Kind, int] = {"line": 2, "paragraph": 24, "poster": 7, "tilted": 2, "sign": 4}
"""Words of each kind of layout, where ``max_words`` and the size allow."""

_AREA_OF_WORD = 4.3
"""Square ems that a word of six letters takes with its space and line gap."""

_TRIES = 12
"""Times other words are tried before letters are drawn smaller than asked for, which only words from a file need."""


class RenderedText(Endless):
    """Words on lines, posters and signs, without end; the caption says what is written."""

    is_mirrorable = False
    is_croppable = False

    class Config(SourceConfig):
        """What is written, how, and how large the picture is."""

        name: Literal["rendered_text"] = "rendered_text"
        size: int = Field(128, ge=32, le=2048)
        """Height and width in pixels."""
        max_words: int | None = Field(None, ge=1, le=24)
        """Most words in one picture; by default as many as the layout and legible letters allow."""
        min_points: int | None = Field(None, ge=6)
        """Size of the smallest letters, pixels per em; by default a sixteenth of the picture, but at least 14,
        or a quarter of a tiny picture."""
        layouts: tuple[Kind, ...] = Field(KINDS, min_length=1)
        """Kinds of layout, drawn in equal shares."""
        grounds: tuple[Ground, ...] = Field(GROUNDS, min_length=1)
        """What the letters or the sign stand on, drawn in equal shares."""
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
        self.fonts = find_fonts(config.fonts, config.split)
        """Paths of the typefaces; empty for the built-in one."""
        self.min_points = config.min_points or max(min(14, config.size // 4), config.size // 16)
        """Size of the smallest letters, pixels per em."""
        most = config.max_words or max(1, int((0.88 * config.size / self.min_points) ** 2 / _AREA_OF_WORD))
        self._most = {kind: min(_MOST[kind], most) for kind in config.layouts if _FEWEST[kind] <= most}
        if not self._most:
            raise UserError(f"max_words {most}: too few for layouts {', '.join(config.layouts)}; add line, or raise it")

    def __getitem__(self, index: int) -> Sample:
        cfg = self.config
        generator = np.random.default_rng([TEXT_STREAM, cfg.seed, index])
        kind = list(self._most)[int(generator.integers(len(self._most)))]
        font = self.fonts[int(generator.integers(len(self.fonts)))] if self.fonts else None
        layout = self._plan(kind, Page(cfg.size, font, generator))
        colours = self._colours(layout, generator)
        image, boxes = draw(layout, colours, font, cfg.size, generator)
        caption, alternatives = describe(layout, colours)
        metadata = {
            "alternatives": alternatives,
            "text": " ".join(layout.lines),
            "lines": layout.lines,
            "layout": kind,
            "boxes": [{"text": " ".join(b.lines), "box": box} for b, box in zip(layout.blocks, boxes, strict=True)],
            "points": round(layout.points, 1),
            "ink": colours.letters[0],
            "ground": colours.under,
            "grounds": list(colours.ground),
            "font": Path(font).stem if font else "builtin",
            "split": cfg.split,
        }
        return Sample(image, caption, f"{index:09d}", metadata)

    def _plan(self, kind: Kind, page: Page) -> Layout:
        """Words in a layout: as many as were drawn, or fewer where that keeps them legible, or others."""
        best: Layout | None = None
        for _ in range(_TRIES):
            words = self._draw_words(int(page.generator.integers(_FEWEST[kind], self._most[kind] + 1)), page.generator)
            for count in range(len(words), _FEWEST[kind] - 1, -1):
                layout = plan(kind, words[:count], page)
                if layout.points >= self.min_points:
                    return layout
                best = layout if best is None or layout.points > best.points else best
        assert best is not None
        return best

    def _draw_words(self, count: int, generator: np.random.Generator) -> list[str]:
        """Words, all in small letters, Capitalised or CAPITALS, or each as it comes."""
        chosen = generator.choice(len(self.words), count, replace=count > len(self.words))
        case = int(generator.integers(0, 4))
        cases = np.full(count, case) if case < 3 else generator.integers(0, 3, count)
        return [_cased(self.words[int(number)], int(kind)) for number, kind in zip(chosen, cases, strict=True)]

    def _colours(self, layout: Layout, generator: np.random.Generator) -> Colours:
        """Letters and what is under them, far enough apart in luminance, in pairs that are not held out."""
        while True:
            under = str(generator.choice(list(PALETTE)))
            inks = [name for name in contrasting(under, LUMINANCE_GAP) if self._is_allowed(name, under)]
            if inks:
                break
        ink = str(generator.choice(inks))
        kind = self.config.grounds[int(generator.integers(len(self.config.grounds)))]
        if layout.panel is not None:
            others = contrasting(under, LUMINANCE_GAP / 2)
            ground = _some(others, MAX_COLOURS[kind], generator)
            return Colours((ink,) * len(layout.blocks), under, kind, ground)
        others = [name for name in companions(ink, under, LUMINANCE_GAP) if self._is_allowed(ink, name)]
        ground = (under, *_some(others, MAX_COLOURS[kind] - 1, generator))
        if layout.kind == "poster" and kind == "plain":
            return Colours(tuple(str(generator.choice(inks)) for _ in layout.blocks), under, kind, ground)
        return Colours((ink,) * len(layout.blocks), under, kind, ground)

    def _is_allowed(self, ink: str, ground: str) -> bool:
        return self.config.split == "test" or not is_held_out(f"{ink} on {ground}")


def describe(layout: Layout, colours: Colours) -> tuple[str, list[str]]:
    """The caption of a picture, which quotes its words and names its colours, and other captions of it."""
    text = " ".join(layout.lines)
    noun = "words" if " " in text else "word"
    inks = _listed(list(dict.fromkeys(colours.letters)))
    ground = _ground(colours)
    subject = {
        "line": f'the {noun} "{text}" in {inks} letters',
        "tilted": f'the tilted {noun} "{text}" in {inks} letters',
        "paragraph": f'a block of text that reads "{text}" in {inks} letters',
        "poster": f"a poster with the words {_listed([_quoted(b) for b in layout.blocks])} in {inks} letters",
        "sign": f'{with_article(colours.under)} sign that says "{text}" in {inks} letters',
    }[layout.kind]
    others = [f'a picture that says "{text}"', f'"{text}" written in {inks}', f'{ground} with the {noun} "{text}"']
    return f"{subject} on {ground}", [*others, f'"{text}"']


def _quoted(block: Block) -> str:
    return f'"{" ".join(block.lines)}"'


def _ground(colours: Colours) -> str:
    """What the letters or the sign stand on: "a red background"."""
    if len(colours.ground) == 1:
        return f"{with_article(colours.ground[0])} background"
    if colours.kind == "gradient":
        return f"a background that goes from {_listed(colours.ground, ' to ')}"
    return f"a blurred picture in {_listed(colours.ground)}"


def _listed(names: Sequence[str], last: str = " and ") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return last.join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _some(names: Sequence[str], most: int, generator: np.random.Generator) -> tuple[str, ...]:
    """Different names, at most so many."""
    if not names or most < 1:
        return ()
    return tuple(str(name) for name in generator.choice(list(names), min(most, len(names)), replace=False))


def _cased(word: str, case: int) -> str:
    return (word, word.capitalize(), word.upper())[case]


def _read_words(path: Path | None) -> list[str]:
    if path is None:
        return list(WORDS)
    try:
        lines = path.expanduser().read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"words {path}: cannot be read ({error}); give a text file of words, one a line") from None
    return [line.strip() for line in lines if line.strip()]
