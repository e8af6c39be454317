"""The condition record: mapping, choosing, joining; absent fields stay absent."""

from __future__ import annotations

import torch

from raekit.conditioning.base import Cond


def cond(value: float, batch: int = 3) -> Cond:
    return Cond(tokens=torch.full((batch, 4, 2), value), mask=torch.ones(batch, 5, dtype=torch.bool))


def test_a_dtype_leaves_the_mask_alone() -> None:
    moved = cond(1.0).to("cpu", torch.bfloat16)
    assert moved.tokens.dtype == torch.bfloat16 and moved.mask.dtype == torch.bool
    assert moved.vector is None and moved.context is None


def test_rows_are_replaced_where_dropped() -> None:
    mixed = cond(1.0).replace_where(torch.tensor([False, True, False]), cond(7.0))
    assert mixed.tokens[:, 0, 0].tolist() == [1, 7, 1]


def test_joining_and_indexing_are_by_sample() -> None:
    both = Cond.cat([cond(1.0, 2), cond(2.0, 1)])
    assert both.tokens[:, 0, 0].tolist() == [1, 1, 2] and both.mask.shape == (3, 5)
    assert both[1:].tokens[:, 0, 0].tolist() == [1, 2]
    assert both[torch.tensor([2])].tokens.shape == (1, 4, 2)
