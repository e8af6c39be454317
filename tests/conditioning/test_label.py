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


def named(*names: str) -> LabelConditioner:
    return LabelConditioner(LabelConditioner.Config(num_classes=len(names), width=8, names=names))


def test_a_class_is_given_by_label_or_by_name() -> None:
    conditioner = named("apple", "Sea horse", "sun")
    asked = ["apple", "sea_horse", "SUN", 0, "1", "2"]
    assert [conditioner.label_of(prompt) for prompt in asked] == [0, 1, 2, 0, 1, 2]
    assert build().label_of("4") == 4


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("aple", "label: 'aple' is not a class of this model; give one in 0..2, or a name such as 'apple'$"),
        ("seahorse", "such as 'Sea horse'"),
        ("xyzzy", "such as 'apple', 'Sea horse', 'sun'$"),
        (3, "label: 3 is not a class"),
        ("-1", "label: '-1' is not a class"),
        (1.5, "label: 1.5 is not a class"),
    ],
)
def test_an_unknown_class_is_refused_with_the_nearest_names(prompt: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        named("apple", "Sea horse", "sun").label_of(prompt)


@pytest.mark.parametrize("names", [("apple",), ("apple", "Apple", "sun")])
def test_each_class_has_its_own_name(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="for 3 classes; give each class its own"):
        LabelConditioner.Config(num_classes=3, width=8, names=names)
