"""Where letters go: one line, a paragraph, a poster, a tilted line, a sign.

In: words, a typeface, a seeded generator. Out: a :class:`Layout`, blocks of lines with the size and place of each,
planned from the extents of the letters before anything is drawn. A block is as large as its share of the picture
allows, times a random 0.7 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from raekit.data.fonts import REFERENCE, extent

Kind = Literal["line", "paragraph", "poster", "tilted", "sign"]
KINDS: tuple[Kind, ...] = ("line", "paragraph", "poster", "tilted", "sign")

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

MARGIN = 0.06
"""Free border, as a share of the side."""

PITCH = 1.25
"""Distance of two lines, over the height of their letters."""


@dataclass(frozen=True)
class Block:
    """Lines of letters of one size.

    Attributes:
        lines: from the top.
        points: size of the letters, pixels per em.
        pens: where the pen starts on each line, in pixels.
        box: what the ink covers.
    """

    lines: tuple[str, ...]
    points: int
    pens: tuple[tuple[float, float], ...]
    box: Box


@dataclass(frozen=True)
class Layout:
    """A picture's text before it is drawn.

    Attributes:
        kind: which of :data:`KINDS`.
        blocks: in reading order.
        panel: the sign that the letters stand on.
        corners: where the corners of the (panel or the) text are moved to, clockwise from the top left: ``[4, 2]``;
            none for upright letters.
    """

    kind: Kind
    blocks: tuple[Block, ...]
    panel: Box | None = None
    corners: tuple[tuple[float, float], ...] | None = None

    @property
    def lines(self) -> list[str]:
        """Every line, in reading order."""
        return [line for block in self.blocks for line in block.lines]

    @property
    def points(self) -> float:
        """Size of the smallest letters as they are seen, pixels per em."""
        return min(block.points for block in self.blocks) * self.scale

    @property
    def content(self) -> Box:
        """What panel or letters cover before they are moved."""
        boxes = [block.box for block in self.blocks] if self.panel is None else [self.panel]
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    @property
    def scale(self) -> float:
        """How much smaller the text becomes by being moved: of the shortest side."""
        if self.corners is None:
            return 1.0
        left, top, right, bottom = self.content
        corners = np.asarray(self.corners)
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        return float((sides / [right - left, bottom - top, right - left, bottom - top]).min())


class Page:
    """A picture's room and typeface, on which blocks are set.

    Args:
        size: height and width in pixels.
        font: path of the typeface; ``None`` is Pillow's own.
        generator: gives sizes and places.
    """

    def __init__(self, size: int, font: str | None, generator: np.random.Generator) -> None:
        self.size, self.font, self.generator = size, font, generator
        margin = size * MARGIN
        self.room: Box = (margin, margin, size - margin, size - margin)

    def uniform(self, low: float, high: float) -> float:
        """A random number between two others."""
        return float(self.generator.uniform(low, high))

    def extents(self, lines: Sequence[str], points: int = REFERENCE) -> tuple[float, float, float]:
        """Width of the widest line, highest and lowest ink of any, in ems."""
        boxes = [extent(self.font, line, points) for line in lines]
        highest, lowest = min(box[1] for box in boxes), max(box[3] for box in boxes)
        # Letters that a typeface draws as nothing still take a little room.
        return max(*(box[2] - box[0] for box in boxes), 0.1), highest, max(lowest, highest + 0.1)

    def largest(self, lines: Sequence[str], box: Box, points: int = REFERENCE) -> float:
        """Points at which the lines fill a box, judged by letters of the given size."""
        width, top, bottom = self.extents(lines, points)
        height = (bottom - top) * (1 + PITCH * (len(lines) - 1))
        return min((box[2] - box[0]) / width, (box[3] - box[1]) / height, 1.2 * self.size)

    def set(self, lines: Sequence[str], box: Box, smallest: float = 0.7, align: float = 0.5) -> Block:
        """Lines somewhere in a box, of ``smallest`` to all of the size that would fill it.

        Args:
            lines: from the top.
            box: where they may be.
            smallest: least share of the largest size, in (0, 1].
            align: 0 for lines that begin together, 0.5 for centred ones.
        """
        points = max(1, int(self.largest(lines, box) * self.uniform(smallest, 1.0)))
        points = max(1, min(points, int(self.largest(lines, box, points))))
        width, highest, lowest = (value * points for value in self.extents(lines, points))
        pitch = (lowest - highest) * PITCH
        left = box[0] + self.generator.random() * max(0.0, box[2] - box[0] - width)
        height = lowest - highest + pitch * (len(lines) - 1)
        top = box[1] + self.generator.random() * max(0.0, box[3] - box[1] - height)
        pens = []
        for row, line in enumerate(lines):
            ink = extent(self.font, line, points)
            indent = (width - (ink[2] - ink[0]) * points) * align - ink[0] * points
            pens.append((left + indent, top + row * pitch - highest))
        return Block(tuple(lines), points, tuple(pens), (left, top, left + width, top + height))


def plan(kind: Kind, words: Sequence[str], page: Page) -> Layout:
    """The words in a layout of a kind."""
    return _PLANS[kind](words, page)


def _line(words: Sequence[str], page: Page) -> Layout:
    return Layout("line", (page.set([" ".join(words)], page.room),))


def _paragraph(words: Sequence[str], page: Page) -> Layout:
    # Lines twice as high as a letter is wide: this many fill a square, give or take one.
    count = round(float(np.sqrt(sum(len(word) + 1 for word in words) / 2)))
    wrapped = [wrap(words, max(1, rows)) for rows in (count - 1, count, count + 1)]
    lines = max(wrapped, key=lambda lines: page.largest(lines, page.room))
    align = float(page.generator.choice([0.0, 0.5]))
    return Layout("paragraph", (page.set(lines, page.room, 0.8, align),))


def _poster(words: Sequence[str], page: Page) -> Layout:
    """Bands of different heights, each with one word or two side by side, each word in a size of its own."""
    left, top, right, bottom = page.room
    bands = _bands(words, page)
    shares = np.cumsum([page.uniform(0.7, 1.6) for _ in bands])
    edges = [top, *(top + (bottom - top) * shares / shares[-1])]
    blocks = []
    for band, upper, lower in zip(bands, edges[:-1], edges[1:], strict=True):
        gap = 0.08 * (lower - upper)
        lengths = np.cumsum([0, *(len(word) + 1 for word in band)])
        marks = left + (right - left) * lengths / lengths[-1]
        for word, start, end in zip(band, marks[:-1], marks[1:], strict=True):
            inset = gap if len(band) > 1 else 0.0
            blocks.append(page.set([word], (float(start) + inset, upper + gap, float(end) - inset, lower - gap)))
    return Layout("poster", tuple(blocks))


def _bands(words: Sequence[str], page: Page) -> list[list[str]]:
    bands: list[list[str]] = []
    for word in words:
        is_beside = bands and len(bands[-1]) == 1 and len(words) > 2 and page.generator.random() < 0.4
        if is_beside:
            bands[-1].append(word)
        else:
            bands.append([word])
    return bands


def _tilted(words: Sequence[str], page: Page) -> Layout:
    lines = list(words) if page.generator.random() < 0.5 else [" ".join(words)]
    layout = Layout("tilted", (page.set(lines, page.room, 1.0),))
    angle = page.uniform(5, 20) * page.generator.choice([-1, 1])
    return tilt(layout, page, angle, smallest=0.85)


def _sign(words: Sequence[str], page: Page) -> Layout:
    """A panel as wide and high as its letters ask for; three in ten hang a little askew."""
    lines = wrap(words, int(page.generator.integers(1, len(words) + 1)))
    left, top, right, bottom = page.room
    border = page.uniform(0.04, 0.09) * page.size
    inner = (left + border, top + border, right - border, bottom - border)
    block = page.set(lines, inner, 0.75)
    ink = block.box
    panel = (ink[0] - border, ink[1] - border, ink[2] + border, ink[3] + border)
    layout = Layout("sign", (block,), panel)
    if page.generator.random() < 0.3:
        return tilt(layout, page, page.uniform(-9, 9), smallest=0.95)
    return layout


_PLANS: dict[Kind, Callable[[Sequence[str], Page], Layout]] = {
    "line": _line,
    "paragraph": _paragraph,
    "poster": _poster,
    "tilted": _tilted,
    "sign": _sign,
}


def tilt(layout: Layout, page: Page, angle: float, smallest: float) -> Layout:
    """Turn a layout and see it a little from the side, inside the margins.

    Args:
        layout: upright.
        page: its page.
        angle: degrees, clockwise.
        smallest: least share of the largest size that fits, in (0, 1].
    """
    left, top, right, bottom = layout.content
    across, down = (right - left) / 2, (bottom - top) / 2
    corners = np.array([(-across, -down), (across, -down), (across, down), (-across, down)])
    corners *= 1 + page.generator.uniform(-0.07, 0.07, (4, 1))
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    corners = corners @ turn
    room = page.room[2] - page.room[0]
    span = corners.max(axis=0) - corners.min(axis=0)
    corners *= min(1.2, room / span.max()) * page.uniform(smallest, 1.0)
    span = corners.max(axis=0) - corners.min(axis=0)
    corners += page.room[0] - corners.min(axis=0) + page.generator.random(2) * (room - span).clip(0)
    return replace(layout, corners=tuple((float(x), float(y)) for x, y in corners))


def wrap(words: Sequence[str], count: int) -> list[str]:
    """Words on at most ``count`` lines of about equal length."""
    total = sum(len(word) + 1 for word in words)
    lines: list[str] = []
    used = 0
    for word in words:
        row = min(count - 1, int((used + len(word) / 2) * count / total))
        if lines and len(lines) - 1 >= row:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
        used += len(word) + 1
    return lines
