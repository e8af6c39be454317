"""Drawing a layout: ground, sign and letters to pixels.

In: a :class:`~raekit.data.text_layouts.Layout`, the names of its colours, a typeface. Out: uint8 ``[size, size, 3]``
and the box of each block. Upright letters are drawn at their own size, where hinting keeps them crisp; signs and tilted
letters at twice the size, moved, then averaged down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from raekit.data.fonts import face
from raekit.data.palette import PALETTE, Colour
from raekit.data.sample import Pixels
from raekit.data.text_grounds import Ground, draw_ground
from raekit.data.text_layouts import Block, Box, Layout

Pen = ImageDraw.ImageDraw

_FINER = 2
"""Times larger that signs and tilted text are drawn."""


@dataclass(frozen=True)
class Colours:
    """Names of the colours of a picture.

    Attributes:
        letters: of each block.
        under: of what is under the letters: the sign, or the first colour of the ground.
        kind: of ground.
        ground: what the ground is made of.
    """

    letters: tuple[str, ...]
    under: str
    kind: Ground
    ground: tuple[str, ...]


def draw(
    layout: Layout, colours: Colours, font: str | None, size: int, generator: np.random.Generator
) -> tuple[Pixels, list[list[int]]]:
    """The picture, and the left, top, right and bottom of each block in whole pixels, right and bottom exclusive."""
    picture = Image.fromarray(draw_ground(colours.kind, colours.ground, size, generator))
    if layout.panel is not None:
        radius, has_rim = float(generator.choice([0.0, 0.15, 0.35])), bool(generator.random() < 0.5)
        _paint(picture, layout, colours.under, lambda pen: _panel(pen, layout, radius))
        if has_rim:
            _paint(picture, layout, colours.letters[0], partial(_rim, layout=layout, size=size, radius=radius))
    upright = ImageDraw.Draw(picture)
    for block, ink in zip(layout.blocks, colours.letters, strict=True):
        if layout.corners is None:
            _write(upright, block, font, finer=1, ink=PALETTE[ink])
        else:
            _paint(picture, layout, ink, partial(_write, block=block, font=font, finer=_FINER, ink=255))
    return np.asarray(picture), [_box(block, layout, size) for block in layout.blocks]


def _write(pen: Pen, block: Block, font: str | None, finer: int, ink: Colour | int) -> None:
    for line, (x, y) in zip(block.lines, block.pens, strict=True):
        pen.text((x * finer, y * finer), line, fill=ink, font=face(font, block.points * finer))


def _panel(pen: Pen, layout: Layout, radius: float) -> None:
    """The sign, its corners rounded by a share of its height."""
    box = [edge * _FINER for edge in layout.content]
    pen.rounded_rectangle(box, radius * (box[3] - box[1]), fill=255)


def _rim(pen: Pen, layout: Layout, size: int, radius: float) -> None:
    """A line just inside the edge of the sign."""
    box = [edge * _FINER for edge in layout.content]
    width = 0.012 * size * _FINER
    inner = [box[0] + width, box[1] + width, box[2] - width, box[3] - width]
    pen.rounded_rectangle(inner, max(0.0, radius * (box[3] - box[1]) - width), outline=255, width=max(1, round(width)))


def _paint(picture: Image.Image, layout: Layout, colour: str, shape: Callable[[Pen], None]) -> None:
    """Draw a shape finer than the picture, move it to where the layout's corners are, and average it down."""
    size = picture.width
    mask = Image.new("L", (size * _FINER, size * _FINER))
    shape(ImageDraw.Draw(mask))
    content = np.array(_corners_of(layout.content))
    corners = content if layout.corners is None else np.array(layout.corners)
    left, top = np.floor(corners.min(axis=0)).astype(int).clip(0)
    right, bottom = (np.ceil(corners.max(axis=0)).astype(int) + 1).clip(None, size)
    if layout.corners is None:
        mask = mask.crop((left * _FINER, top * _FINER, right * _FINER, bottom * _FINER))
    else:
        coefficients = perspective((corners - [left, top]) * _FINER, content * _FINER)
        extent = ((right - left) * _FINER, (bottom - top) * _FINER)
        mask = mask.transform(extent, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    picture.paste(PALETTE[colour], (int(left), int(top)), mask.reduce(_FINER))


def _box(block: Block, layout: Layout, size: int) -> list[int]:
    """What a block covers in the picture."""
    corners = np.array(_corners_of(block.box))
    if layout.corners is not None:
        a, b, c, d, e, f, g, h = perspective(np.array(_corners_of(layout.content)), np.array(layout.corners))
        x, y = corners.T
        corners = np.stack([a * x + b * y + c, d * x + e * y + f], axis=1) / (g * x + h * y + 1)[:, None]
    low, high = np.floor(corners.min(axis=0)).clip(0), np.ceil(corners.max(axis=0)).clip(None, size)
    return [int(low[0]), int(low[1]), int(high[0]), int(high[1])]


def _corners_of(box: Box) -> list[tuple[float, float]]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def perspective(corners: NDArray[np.float64], source: NDArray[np.float64]) -> tuple[float, ...]:
    """The eight numbers that lead from four points to four others.

    Args:
        corners: ``[4, 2]``, points (x, y).
        source: ``[4, 2]``, where they lead: ``x' = (a x + b y + c) / (g x + h y + 1)``, and y' likewise with d, e, f.
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(float(value) for value in np.linalg.solve(np.array(rows), np.array(values)))
