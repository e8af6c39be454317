"""What a loss reads inside a frozen network: the tokens after some of its blocks.

In: an image ``[B,3,H,W]`` in [0,1]. Out: token maps ``[B,N,D]``, differentiable with respect to the image. Registered
encoders and :class:`raekit.losses.dino.DINO` answer to the same three names, so a loss never asks which it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from raekit.errors import UserError


class Tapped(Protocol):
    """A frozen transformer whose insides can be read; it resizes and normalises the image itself."""

    @property
    def width(self) -> int:
        """``D``, channels of a token."""

    @property
    def depth(self) -> int:
        """Number of blocks."""

    def taps(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Patch tokens ``[B,N,D]`` after the given blocks, before any final norm.

        Args:
            image: ``[B,3,H,W]`` in [0,1].
            layers: blocks, each once, from 1 on or backwards from -1; the list follows their order.
        """


def quarters(depth: int) -> tuple[int, ...]:
    """The blocks that end each quarter of a network: 3, 6, 9, 12 of 12; fewer for one of less than four blocks."""
    return tuple(sorted({max(1, depth * k // 4) for k in range(1, 5)}))


def count_from_one(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Block numbers with negative ones resolved: -1 is ``depth``.

    Raises:
        UserError: a block that the network does not have.
    """
    if wrong := [layer for layer in layers if not 1 <= abs(layer) <= depth]:
        raise UserError(f"layers: no block {wrong[0]} in a network of {depth}; count from 1, or from -1 backwards")
    return tuple(layer if layer > 0 else depth + 1 + layer for layer in layers)
