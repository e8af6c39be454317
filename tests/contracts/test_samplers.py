"""What every registered sampler promises; a new row is tested the day it is added."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from raekit.samplers import SAMPLERS
from raekit.transport import GRIDS

TRUE_SAMPLERS = sorted(set(SAMPLERS) - {"scale_rae_published"})
"""All but the one that repeats a published mistake."""


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_signature_is_shared(name: str) -> None:
    leading = list(inspect.signature(SAMPLERS[name]).parameters.values())
    assert [p.name for p in leading[:4]] == ["velocity_fn", "z", "times", "callback"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in leading[4:])


@pytest.mark.parametrize("name", TRUE_SAMPLERS)
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_straight_path_is_followed_exactly(name: str, grid: str) -> None:
    x, eps = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    times = GRIDS[grid](5, 3.0)
    end = times[-1].item()
    torch.testing.assert_close(SAMPLERS[name](lambda z, t: eps - x, eps, times), (1 - end) * x + end * eps)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_is_deterministic_leaves_its_input_alone_and_keeps_shape(name: str) -> None:
    def velocity(z: Tensor, t: Tensor) -> Tensor:
        return z.tanh() * t.view(-1, 1)

    z = torch.randn(4, 3)
    before, times = z.clone(), GRIDS["linear"](4, 2.0)
    first, second = (SAMPLERS[name](velocity, z, times) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(z, before)
    assert first.shape == z.shape
    assert first.dtype == z.dtype


@pytest.mark.parametrize("name", TRUE_SAMPLERS)
def test_finer_grids_come_closer(name: str) -> None:
    z = torch.randn(3, 2, dtype=torch.float64)
    errors = [
        (SAMPLERS[name](lambda z, t: z * (1 + t[:, None]), z, GRIDS["linear"](n)) - z * torch.tensor(-1.5).exp())
        .abs()
        .max()
        for n in (4, 64)
    ]
    assert errors[1] < errors[0] / 5 or errors[1] < 1e-5
