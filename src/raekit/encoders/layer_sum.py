"""Tokens from several layers of an encoder: which blocks, and how their outputs become one tensor.

In: the ``layers`` setting and the normalised outputs of those blocks, ``[B,N,D]`` each. Out: tokens ``[B,N,D]``. Adding
layers costs no parameter and no channel, and gives back the detail that the last layer has dropped (RAEv2,
arXiv 2605.18324, equation 1: PSNR 18.9, 22.6, 27.0 dB for the last 1, 7, 23 layers of DINOv3-L).

The equation says nothing of norms. Here each layer is normalised by itself, with the encoder's own final norm, since
the scale of a raw output grows with its depth; and nothing is done after the sum, since the latent statistics take it
to unit variance anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from torch import Tensor

from raekit.errors import UserError

Merge = Literal["sum", "mean", "mean_global"]
"""``sum``: RAEv2, equation 1. ``mean``: the sum at the scale of one layer, so that a noise level ``tau`` means the same
for any number of layers. ``mean_global``: that, plus the deepest chosen layer's mean over all positions, which is how a
third party describes the encoder of the released RAEv2 decoders (not checked against them)."""

LAST = re.compile(r"last_([1-9]\d*)")


def parse_layers(value: Any) -> Any:
    """``last_K`` as the list it stands for, ``[-K, ..., -1]``; whatever else is left to the type to judge."""
    if not isinstance(value, str):
        return value
    match = LAST.fullmatch(value)
    if match is None:
        raise ValueError("write a list of block numbers, such as [-3, -1], or last_K, such as last_7")
    return list(range(-int(match[1]), 0))


Layers = Annotated[tuple[int, ...], BeforeValidator(parse_layers, json_schema_input_type=list[int] | str)]
"""Block numbers from 1; negative ones count from the end. ``last_K`` is short for the last K."""


def resolve_layers(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Positive block numbers of ``layers``, in the order given; None means the last block alone.

    Raises:
        UserError: none at all, one given twice, or one that an encoder of ``depth`` blocks does not have.
    """
    chosen = (depth,) if layers is None else tuple(depth + 1 + n if n < 0 else n for n in layers)
    outside = [given for given, n in zip(layers or (), chosen, strict=False) if not 1 <= n <= depth]
    if outside:
        raise UserError(
            f"encoder.layers: {outside[0]} is none of the encoder's {depth} blocks; "
            f"give numbers from 1 to {depth}, or from -{depth} to -1"
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"encoder.layers: {list(layers or ())} must name at least one block, and each of them once")
    return chosen


def merge_layers(merge: Merge, normalised: Iterable[Tensor]) -> Tensor:
    """Tokens ``[B,N,D]`` of the normalised outputs ``[B,N,D]`` of the chosen blocks, given from shallow to deep."""
    layers = iter(normalised)
    total = deepest = next(layers)
    count = 1
    for deepest in layers:
        total = total + deepest
        count += 1
    if merge == "sum":
        return total
    mean = total / count
    return mean if merge == "mean" else mean + deepest.mean(dim=1, keepdim=True)
