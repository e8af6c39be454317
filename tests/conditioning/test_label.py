"""The label conditioner: a table with the null condition as its last row."""

from __future__ import annotations

import pytest
import torch

from raekit.conditioning.label import LabelConditioner
from raekit.errors import UserError


def build() -> LabelConditioner:
    torch.manual_seed(0)
    return LabelConditioner(LabelConditioner.Config(num_classes=5, width=8))


def test_a_label_is_its_row_and_null_is_the_last() -> None:
    conditioner = build()
    assert conditioner.table.weight.shape == (6, 8)
    assert torch.equal(conditioner(torch.tensor([4, 0])).vector, conditioner.table.weight[[4, 0]])
    assert torch.equal(conditioner.null(2).vector, conditioner.table.weight[[5, 5]])


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_out_of_range_is_refused(label: int) -> None:
    with pytest.raises(UserError, match=f"label: {label} .* 0..4"):
        build()(torch.tensor([0, label]))


def test_text_is_refused() -> None:
    with pytest.raises(UserError, match="class labels 0..4, not text"):
        build()(["a red apple"])
