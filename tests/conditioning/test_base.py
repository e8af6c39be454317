"""The condition record: mapping, choosing, joining; absent fields stay absent."""

from __future__ import annotations

import pytest
import torch

from raekit.conditioning.base import Cond


def cond(value: float, batch: int = 3, length: int = 5) -> Cond:
    context = torch.full((batch, length, 3), value)
    mask = torch.ones(batch, length, dtype=torch.bool)
    return Cond(tokens=torch.full((batch, 4, 2), value), context=context, mask=mask)


def test_a_dtype_leaves_the_mask_alone() -> None:
    moved = cond(1.0).to("cpu", torch.bfloat16)
    assert moved.tokens.dtype == torch.bfloat16 and moved.mask.dtype == torch.bool
    assert moved.vector is None


def test_rows_are_replaced_where_dropped() -> None:
    mixed = cond(1.0).replace_where(torch.tensor([False, True, False]), cond(7.0))
    assert mixed.tokens[:, 0, 0].tolist() == [1, 7, 1]


def test_joining_and_indexing_are_by_sample() -> None:
    both = Cond.cat([cond(1.0, 2), cond(2.0, 1)])
    assert both.tokens[:, 0, 0].tolist() == [1, 1, 2] and both.mask.shape == (3, 5)
    assert both[1:].tokens[:, 0, 0].tolist() == [1, 2]
    assert both[torch.tensor([2])].tokens.shape == (1, 4, 2)


def test_contexts_of_different_length_are_joined_behind_a_mask() -> None:
    both = Cond.cat([cond(1.0, 2, length=5), cond(2.0, 1, length=2)])
    assert both.context.shape == (3, 5, 3)
    assert both.mask.tolist() == [[True] * 5, [True] * 5, [True, True, False, False, False]]
    assert both.context[2, :, 0].tolist() == [2, 2, 0, 0, 0]


@pytest.mark.parametrize(("kept", "null"), [(5, 1), (1, 4)])
def test_a_null_of_another_length_replaces_all_words(kept: int, null: int) -> None:
    mixed = cond(1.0, length=kept).replace_where(torch.tensor([True, False, False]), cond(7.0, length=null))
    assert mixed.mask.sum(1).tolist() == [null, kept, kept]
    assert mixed.context[0, :null, 0].tolist() == [7.0] * null
    assert mixed.context[1, :kept, 0].tolist() == [1.0] * kept


def test_words_and_mask_belong_together() -> None:
    with pytest.raises(ValueError, match="context and mask"):
        Cond(context=torch.zeros(1, 2, 3))


def test_size_is_the_number_of_samples() -> None:
    assert cond(1.0, 4).size == 4 and Cond(vector=torch.zeros(2, 3)).size == 2
    with pytest.raises(ValueError, match="nothing"):
        _ = Cond().size
