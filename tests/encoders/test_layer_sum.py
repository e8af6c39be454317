"""Which layers are meant, and how several become one."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from raekit.encoders.base import EncoderConfig
from raekit.encoders.layer_sum import Layers, Merge, merge_layers, resolve_layers
from raekit.errors import UserError


def test_last_k_is_short_for_a_list() -> None:
    assert EncoderConfig(layers="last_3").layers == EncoderConfig(layers=[-3, -2, -1]).layers == (-3, -2, -1)
    assert EncoderConfig().layers is None


@pytest.mark.parametrize("wrong", ["last", "last_0", "last_-1", "first_2", "7"])
def test_other_words_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="list of block numbers, such as .*, or last_K"):
        EncoderConfig(layers=wrong)


def test_the_schema_takes_both_forms() -> None:
    kinds = [option["type"] for option in TypeAdapter(Layers).json_schema()["anyOf"]]
    assert kinds == ["array", "string"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, (4,)), ((-1,), (4,)), ((1, -2), (1, 3)), ((-1, 2, 1), (4, 2, 1)), ((-4, -3, -2, -1), (1, 2, 3, 4))],
)
def test_numbers_from_the_end(given: tuple[int, ...] | None, meant: tuple[int, ...]) -> None:
    assert resolve_layers(given, depth=4) == meant


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ((0,), "0 is none of the encoder's 4 blocks"),
        ((1, 5), "5 is none of"),
        ((-5,), "-5 is none of"),
        ((4, -1), "each of them once"),
        ((), "at least one block"),
    ],
)
def test_blocks_that_do_not_exist(wrong: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        resolve_layers(wrong, depth=4)


@pytest.mark.parametrize(
    ("merge", "expected"),
    [("sum", [[6.0], [12.0]]), ("mean", [[2.0], [4.0]]), ("mean_global", [[6.0], [8.0]])],
)
def test_merging(merge: Merge, expected: list[list[float]]) -> None:
    """Two tokens of one channel; the deepest layer's mean over them is 4."""
    layers = [torch.tensor([[[a], [b]]]) for a, b in ((1.0, 2.0), (2.0, 5.0), (3.0, 5.0))]
    assert merge_layers(merge, iter(layers)).tolist() == [expected]


def test_one_layer_is_itself() -> None:
    layer = torch.randn(2, 3, 4)
    assert torch.equal(merge_layers("sum", [layer]), layer) and torch.equal(merge_layers("mean", [layer]), layer)
