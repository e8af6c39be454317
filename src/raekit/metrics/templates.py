"""Which drawing is it: normalised correlation with every sprite, in every tint.

In: crops of a picture from which its ground was subtracted, ``[N,T,T,3]``. Out: the best drawing for each, and how
well it correlates. A sprite of colour ``c`` and coverage ``a`` on a ground ``g`` leaves ``a (c - g)`` when the ground
is subtracted, so the correlation is with what the sprite would leave on this very ground: exact for a true render, and
blind to how strongly a picture is washed out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from raekit.data.palette import GENEVAL_COLOURS, PALETTE
from raekit.data.sample import Pixels
from raekit.data.scenes import Scenes, tint
from raekit.metrics.components import Array

SIDE = 16
"""Pixels ``T`` to which crops and sprites are brought; 24 recognises no more."""

SHAPE_TOLERANCE = 0.35
"""Most difference between the logarithms of the width-to-height ratios of a crop and a sprite."""

TINTS: tuple[str | None, ...] = (None, *GENEVAL_COLOURS)


def _shades() -> Array:
    """Each of GenEval's colours from its darkest shade to its lightest, as tints have them: ``[10,16,3]`` in [0,1]."""
    greys = np.repeat(np.linspace(0, 255, 16).round().astype(np.uint8)[None, :, None], 4, axis=2)
    greys[..., 3] = 255
    return np.concatenate([tint(greys, PALETTE[name]) for name in GENEVAL_COLOURS]).astype(np.float32) / np.float32(255)


SHADES = _shades()


@dataclass(frozen=True)
class Match:
    """What a crop resembles.

    Attributes:
        kind: class of the best sprite.
        score: its correlation, at most 1.
        colour: of the crop, where that sprite covers it; see :func:`nearest_colour`.
    """

    kind: str
    score: float
    colour: str


class Templates:
    """Sprites to compare with.

    Args:
        sprites: class and RGBA drawing ``[h,w,4]``, cut to what can be seen of it.

    Attributes:
        kinds: class of each sprite.
    """

    def __init__(self, sprites: Iterable[tuple[str, Pixels]]) -> None:
        self.kinds: list[str] = []
        shapes, coverage, colours = [], [], []
        for kind, sprite in sprites:
            self.kinds.append(kind)
            shapes.append(math.log(sprite.shape[1] / sprite.shape[0]))
            # Premultiplied ("RGBa") while scaling, or the hidden colour of clear pixels bleeds into the edges.
            scaled = Image.fromarray(sprite).convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BOX)
            small = np.asarray(scaled.convert("RGBA"))
            coverage.append(small[..., 3])
            colours.append([small[..., :3] if name is None else tint(small, PALETTE[name]) for name in TINTS])
        self._shapes = np.array(shapes)
        self._coverage: Array = np.stack(coverage).reshape(len(self.kinds), -1).astype(np.float32) / np.float32(255)
        # a c of the module's docstring, [sprites, tints, T * T, 3].
        values = np.stack(colours).reshape(len(self.kinds), len(TINTS), -1, 3).astype(np.float32) / np.float32(255)
        self._painted: Array = values * self._coverage[:, None, :, None]
        # |a (c - g)|^2 = sum (a c)^2 - 2 g . sum a^2 c + g^2 sum a^2, for a ground that is even within the crop.
        self._squares = (self._painted**2).sum(axis=(2, 3))
        self._crossed = (self._painted * self._coverage[:, None, :, None]).sum(axis=2)
        self._covered = (self._coverage**2).sum(axis=1)

    @classmethod
    def of(cls, scenes: Scenes) -> Templates:
        """All drawings, of every style, that scenes are composed of."""
        rows = [(kind, index) for kinds in scenes.sprites.values() for kind in kinds for index in kinds[kind]]
        return cls((kind, scenes.sprite(index)) for kind, index in rows)

    def match(self, crops: Array, grounds: Array, shapes: Sequence[float]) -> list[Match]:
        """The best sprite for each crop.

        Args:
            crops: picture minus ground, ``[N,T,T,3]``.
            grounds: mean ground of each crop, ``[N,3]``.
            shapes: logarithm of each crop's width over its height, before it was made square.
        """
        scores = self.correlate(crops, grounds)
        is_alike = np.abs(self._shapes - np.asarray(shapes)[:, None]) <= SHAPE_TOLERANCE
        best = np.where(is_alike[..., None], scores, -1.0).reshape(len(crops), -1)
        found = []
        for number, index in enumerate(best.argmax(axis=1)):
            sprite = int(index) // len(TINTS)
            seen = self._coverage[sprite] > 0.5
            pixels = (crops[number].reshape(-1, 3) + grounds[number])[seen if seen.any() else slice(None)]
            found.append(Match(self.kinds[sprite], float(best[number, index]), nearest_colour(pixels)))
        return found

    def correlate(self, crops: Array, grounds: Array) -> Array:
        """Correlation of each crop with each sprite in each tint, ``[N, sprites, tints]``; arguments as for match."""
        flat = crops.reshape(len(crops), -1)
        inner = flat @ self._painted.reshape(-1, flat.shape[1]).T
        shared = np.einsum("npc,nc->np", crops.reshape(len(crops), -1, 3), grounds) @ self._coverage.T
        inner = inner.reshape(len(crops), len(self.kinds), len(TINTS)) - shared[..., None]
        ground_squares = (grounds**2).sum(axis=1)[:, None] * self._covered
        squares = self._squares - 2 * np.einsum("stc,nc->nst", self._crossed, grounds) + ground_squares[..., None]
        own = (flat**2).sum(axis=1)[:, None, None]
        scores: Array = inner / np.sqrt(np.maximum(squares * own, 1e-12))
        return scores


def nearest_colour(pixels: Array) -> str:
    """The name of GenEval's colour whose lights and shades lie nearest to the pixels ``[N,3]`` in [0,1], on average."""
    distances = np.linalg.norm(pixels[:, None, None] - SHADES, axis=-1).min(axis=2).mean(axis=0)
    return GENEVAL_COLOURS[int(distances.argmin())]
