"""What stands out from a plain ground: the pieces of a picture, by connected components.

In: a picture ``[H,W,3]`` in [0,1] whose ground is plain or evenly graded, as in composed scenes. Out: the ground, and
the pieces in front of it. A piece is no object yet: scissors may fall into two, and two things that touch are one,
until they are cut at the waist. Which pieces belong together is for whoever knows what objects look like
(:mod:`raekit.metrics.scene_check`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom exclusive."""

SMALLEST_PIECE = 0.002
"""Share of the picture below which a piece is a speck and left out: 8 pixels of 64 x 64."""

WAIST = 0.4
"""A piece is cut where its width is below this part of its greatest one."""

MIDDLE = (0.2, 0.8)
"""Part of a piece's length in which it may be cut."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Connected pixels, or several such that are taken as one.

    Attributes:
        mask: which pixels, ``[H,W]``.
        box: their bounding box.
        area: how many there are.
    """

    mask: Mask
    box: Box
    area: int

    @classmethod
    def of(cls, mask: Mask) -> Piece:
        """Of a mask with at least one pixel."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return cls(mask, box, int(mask.sum()))

    def with_(self, other: Piece) -> Piece:
        """Both as one."""
        return Piece.of(self.mask | other.mask)


def ground_of(image: Array) -> tuple[Array, float]:
    """What a picture's things stand on.

    Returns:
        The ground ``[H,W,3]``, a plane in each channel, fitted to the border without what stands on it; and how much
        the border differs from it (the median of the pixels' largest difference), which is 0 for a drawing.
    """
    height, width, _ = image.shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    plane = np.stack([np.ones_like(x), x, y], axis=-1)
    is_border = np.zeros((height, width), bool)
    is_border[[0, -1]] = is_border[:, [0, -1]] = True
    places, values = plane[is_border], image[is_border].astype(np.float64)
    residual = np.abs(values - np.median(values, axis=0)).max(axis=1)
    for _ in range(3):
        # At least half of the border is ground; what differs most may be an object that reaches the edge.
        kept = residual <= max(0.02, float(np.median(residual)) * 2)
        slopes = np.linalg.lstsq(places[kept], values[kept], rcond=None)[0]
        residual = np.abs(values - places @ slopes).max(axis=1)
    return (plane @ slopes).clip(0, 1).astype(np.float32), float(np.median(residual))


def foreground_of(image: Array, ground: Array, contrast: float) -> Mask:
    """Where some channel of ``image`` differs from ``ground`` by more than ``contrast``, ``[H,W]``."""
    mask: Mask = np.abs(image - ground).max(axis=-1) > contrast
    return mask


def label(mask: Mask) -> tuple[NDArray[np.intp], int]:
    """Connected components, corners included.

    Every pixel takes the largest number among its neighbours', then that of the pixel so numbered, until nothing
    changes: union-find on arrays (Shiloach and Vishkin 1982), a few rounds whatever the shape.

    Returns:
        Numbers from 1 within ``mask`` and 0 outside, ``[H,W]``, and how many there are.
    """
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    height, width = mask.shape
    while True:
        padded = np.pad(numbers, 1)
        shifted = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
        spread = np.where(mask, np.max(shifted, axis=0), 0)
        jumped = np.where(mask, np.append(0, spread)[spread], 0)
        if (jumped == numbers).all():
            break
        numbers = jumped
    known, inverse = np.unique(np.append(0, numbers), return_inverse=True)
    return inverse[1:].reshape(mask.shape), len(known) - 1


def pieces_of(foreground: Mask) -> list[Piece]:
    """Connected components, cut at their waists, without specks; the largest first."""
    smallest = SMALLEST_PIECE * foreground.size
    numbers, count = label(foreground)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    waiting = [Piece.of(numbers == number) for number in range(1, count + 1) if sizes[number] >= smallest]
    found = []
    while waiting:
        piece = waiting.pop()
        halves = _cut(piece)
        if min((half.area for half in halves), default=0) < smallest:
            found.append(piece)
        else:
            waiting += halves
    return sorted(found, key=lambda piece: (-piece.area, piece.box))


def gap(first: Box, second: Box) -> int:
    """Pixels between two boxes, the larger of across and down; 0 where they meet or overlap."""
    across = max(first[0], second[0]) - min(first[2], second[2])
    down = max(first[1], second[1]) - min(first[3], second[3])
    return max(across, down, 0)


def _cut(piece: Piece) -> list[Piece]:
    """The two parts of a piece that has a waist, along the longer side first; nothing of one that has none."""
    left, top, right, bottom = piece.box
    inside = piece.mask[top:bottom, left:right]
    for axis in sorted((0, 1), key=lambda axis: inside.shape[axis], reverse=True):
        profile = inside.sum(axis=1 - axis)
        first, last = (round(len(profile) * share) for share in MIDDLE)
        if last <= first:
            continue
        line = first + int(profile[first:last].argmin())
        if profile[line] <= WAIST * min(profile[:line].max(initial=0), profile[line:].max(initial=0)):
            return [Piece.of(half) for half in _halves(piece.mask, axis, line + (top, left)[axis]) if half.any()]
    return []


def _halves(mask: Mask, axis: int, line: int) -> tuple[Mask, Mask]:
    """``mask`` before and from ``line`` of ``axis``."""
    before: Any = np.arange(mask.shape[axis]) < line
    before = before[:, None] if axis == 0 else before[None]
    return mask & before, mask & ~before
