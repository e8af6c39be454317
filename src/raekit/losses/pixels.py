"""Pixel losses: absolute difference of values and of their finite differences.

In: two batches of images ``[B,3,H,W]`` in [0,1]. Out: a scalar.
"""

from __future__ import annotations

from torch import Tensor


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of images ``[B,3,H,W]`` in [0,1], a scalar (RAE, appendix C.2)."""
    return (image.float() - target.float()).abs().mean()


def gradient_l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical neighbour differences: keeps edges where they are.

    Args:
        image: ``[B,3,H,W]`` in [0,1], both sides at least 2.
        target: the same shape.

    Returns:
        A scalar.
    """
    difference = image.float() - target.float()
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
