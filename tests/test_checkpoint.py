"""Weights are whole, verified on the way in, and strict about keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raekit import checkpoint
from raekit.errors import UserError


def test_a_truncated_weight_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.arange(6.0)}, path)
    assert torch.equal(checkpoint.load_safetensors(path)["w"], torch.arange(6.0))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged or incomplete"):
        checkpoint.load_safetensors(path)
    with pytest.raises(UserError, match="no such file"):
        checkpoint.load_safetensors(tmp_path / "absent.safetensors")


def test_strict_loading_lists_what_does_not_fit() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(UserError) as error:
        checkpoint.load_strict(layer, {"weight": torch.zeros(3, 2), "scale": torch.zeros(1)}, "file")
    message = str(error.value)
    assert (
        "1 missing key (bias); 1 unexpected key (scale); weight is [3, 2], expected [2, 2]; copy it again, or"
        in message
    )
    many = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)} | {name: torch.zeros(1) for name in "edcba"}
    with pytest.raises(UserError, match=r"this Linear: 5 unexpected keys \(a, b, c and 2 more\); copy it again"):
        checkpoint.load_strict(layer, many, "file")


def test_name_some() -> None:
    assert [checkpoint.name_some(names) for names in ("ba", "cba", "dcba")] == ["a, b", "a, b, c", "a, b, c and 1 more"]


def test_only_keys_that_are_listed_may_be_missing() -> None:
    layer = nn.Linear(2, 2)
    bias = layer.bias.detach().clone()
    checkpoint.load_strict(layer, {"weight": torch.ones(2, 2)}, "file", optional=frozenset({"bias"}))
    assert torch.equal(layer.weight, torch.ones(2, 2)) and torch.equal(layer.bias, bias)
