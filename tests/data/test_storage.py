from __future__ import annotations

import math

import pytest
import torch

from raekit.data.storage import pack, squared_error, unpack


def relative_error(value: torch.Tensor, precision: str, channel: int = 1) -> float:
    error, power = squared_error(value, pack("z", value, precision, channel))
    return math.sqrt(error / power)


def test_the_errors_of_a_normal_latent() -> None:
    """Rounding to a step of d is off by d / sqrt(12) on average; 256 normal numbers reach about 2.8."""
    value = torch.randn(4, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    assert relative_error(value, "fp32") == 0
    assert 0.001 < relative_error(value, "bf16") < 0.002
    assert relative_error(value, "int8") == pytest.approx(2.9 / 127 / math.sqrt(12), rel=0.1)


def test_each_channel_of_each_row_has_its_own_scale() -> None:
    value = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    loud = value * torch.tensor([1.0, 100.0, 0.01, 1.0])[:, None, None]
    assert relative_error(loud[:, 2], "int8") < 0.02
    one, many = pack("z", loud[1:2], "int8", 1), pack("z", loud, "int8", 1)
    assert torch.equal(one["z"], many["z"][1:2]) and many["z.scale"].shape == (3, 4, 1, 1)
    assert pack("features", torch.randn(2, 7, 6), "int8", -1)["features.scale"].shape == (2, 1, 6)


def test_zeros_and_whole_numbers_come_back_as_they_were() -> None:
    for value in (torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.arange(6)):
        assert torch.equal(unpack(pack("z", value, "int8", 1))["z"], value)


def test_several_tensors_side_by_side() -> None:
    stored = {
        **pack("a", torch.ones(2, 3, 4), "int8", 1),
        **pack("mask", torch.ones(2, 3, dtype=torch.bool), "int8", 1),
    }
    back = unpack(stored)
    assert set(back) == {"a", "mask"} and torch.allclose(back["a"], torch.ones(2, 3, 4))
