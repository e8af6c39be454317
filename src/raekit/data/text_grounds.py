"""What letters stand on: plain colours, gradients, and something like a blurred picture.

In: names of colours, a seeded generator. Out: uint8 ``[size, size, 3]``, every pixel a mixture of those colours.
Luminance is linear in RGB, so where each of the colours keeps its distance from the letters, on the same side of them,
each pixel does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raekit.data.palette import PALETTE, contrasting, luminance
from raekit.data.sample import Pixels

Ground = Literal["plain", "gradient", "picture"]
GROUNDS: tuple[Ground, ...] = ("plain", "gradient", "picture")

MAX_COLOURS = {"plain": 1, "gradient": 2, "picture": 3}


def companions(ink: str, ground: str, gap: float) -> list[str]:
    """Colours that may be mixed with ``ground`` under letters in ``ink``: as far from them, and on the same side."""
    is_darker = luminance(PALETTE[ground]) < luminance(PALETTE[ink])
    return [
        name
        for name in contrasting(ink, gap)
        if name != ground and (luminance(PALETTE[name]) < luminance(PALETTE[ink])) == is_darker
    ]


def draw_ground(kind: Ground, colours: Sequence[str], size: int, generator: np.random.Generator) -> Pixels:
    """A ground of up to three colours, ``[size, size, 3]``."""
    if kind == "plain" or len(colours) == 1:
        return np.full((size, size, 3), PALETTE[colours[0]], np.uint8)
    field = _gradient(size, generator) if kind == "gradient" else _blotches(size, generator)
    stops = np.asarray([PALETTE[name] for name in colours], np.float32)
    places = np.linspace(0, 1, len(colours))
    table = np.stack([np.interp(np.linspace(0, 1, 256), places, stops[:, channel]) for channel in range(3)], axis=1)
    painted: Pixels = np.take(np.rint(table).astype(np.uint8), field, axis=0)
    return painted


def _gradient(size: int, generator: np.random.Generator) -> Pixels:
    """A ramp from 0 to 255 across the picture, in any direction."""
    angle = generator.uniform(0, 2 * np.pi)
    line = np.linspace(-1, 1, size, dtype=np.float32)
    return _levels(line[None] * np.float32(np.cos(angle)) + line[:, None] * np.float32(np.sin(angle)))


def _blotches(size: int, generator: np.random.Generator) -> Pixels:
    """Soft blotches with a finer grain: noise on two coarse grids, scaled up; the colours of a photo out of focus."""
    field = np.zeros((size, size), np.float32)
    for cells, strength in ((int(generator.integers(3, 6)), 1.0), (int(generator.integers(8, 17)), 0.35)):
        coarse = Image.fromarray(generator.random((cells, cells), np.float32), "F")
        field += np.float32(strength) * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return _levels(field)


def _levels(field: NDArray[np.float32]) -> Pixels:
    """Stretched over 0 to 255."""
    low, high = field.min(), field.max()
    levels: Pixels = np.rint((field - low) * (255 / max(float(high - low), 1e-6))).astype(np.uint8)
    return levels
