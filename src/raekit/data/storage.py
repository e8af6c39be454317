"""Tensors on disk in fewer bytes, and what that costs.

In: rows of numbers, ``[rows, ...]``. Out: what is stored of them (fp32, bf16, or int8 with a scale for every channel of
every row) and back. The error is measured on the very rows that are written: latents of one encoder lose nothing that
those of another do not, so nobody has to guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

StoredPrecision = Literal["fp32", "bf16", "int8"]

BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
"""Of a number; the scales of int8 come on top, four bytes for each channel of a row."""

SCALE = ".scale"
"""End of the name of the scales that belong to a tensor."""

STEPS = 127
"""Levels of int8 on each side of zero; -128 is not used."""


def pack(name: str, value: Tensor, precision: StoredPrecision, channel: int) -> dict[str, Tensor]:
    """What is stored of some rows.

    Args:
        name: of the tensor.
        value: ``[rows, ...]``; whole numbers and booleans are stored as they are.
        precision: of what is stored.
        channel: the dimension whose entries have a scale of their own in int8: 1 of latents ``[rows, C, h, w]``, the
            last of features ``[rows, N, D]``.
    """
    if not value.is_floating_point():
        return {name: value}
    if precision != "int8":
        return {name: value.to(torch.float32 if precision == "fp32" else torch.bfloat16)}
    value = value.float()
    others = [dim for dim in range(1, value.ndim) if dim != channel % value.ndim]
    largest = value.abs().amax(dim=others, keepdim=True) if others else value.abs()
    scale = (largest / STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    return {name: (value / scale).round().to(torch.int8), name + SCALE: scale}


def unpack(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows again: int8 as fp32, everything else as it is stored."""
    scaled = {name: value for name, value in stored.items() if name + SCALE in stored}
    plain = {name: value for name, value in stored.items() if name not in scaled and not name.endswith(SCALE)}
    return plain | {name: value.float() * stored[name + SCALE] for name, value in scaled.items()}


def squared_error(value: Tensor, stored: Mapping[str, Tensor]) -> tuple[float, float]:
    """Sum of squared differences between rows and what comes back of them, and the sum of their squares."""
    (back,) = unpack(stored).values()
    exact = value.double()
    return float((back.double() - exact).square().sum()), float(exact.square().sum())
