"""Muon by its definition, and a step that leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raekit.training.muon import Muon

SHAPES = ((8, 8), (24, 8), (8, 24))


def weights() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def stepped(found_inf: Tensor | None, steps: int = 3) -> list[nn.Parameter]:
    parameters = weights()
    optimizer = Muon(parameters, lr=0.01, adjust_lr_fn="match_rms_adamw", weight_decay=0.1)
    optimizer.found_inf = found_inf
    for step in range(steps):
        for parameter in parameters:
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
        optimizer.step()
    return parameters


def test_a_good_step_is_that_of_torch() -> None:
    theirs = weights()
    optimizer = torch.optim.Muon(theirs, lr=0.01, adjust_lr_fn="match_rms_adamw", weight_decay=0.1)
    for step in range(3):
        for parameter in theirs:
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
        optimizer.step()
    for ours, expected in zip(stepped(torch.zeros(())), theirs, strict=True):
        assert torch.equal(ours, expected)


def test_a_bad_step_leaves_weights_and_momentum() -> None:
    parameters = weights()
    optimizer = Muon(parameters, lr=0.01)
    for flag, factor in ((0.0, 1.0), (1.0, float("nan")), (1.0, float("inf")), (0.0, 2.0)):
        before = [p.detach().clone() for p in parameters]
        momentum = [optimizer.state[p].get("momentum_buffer", torch.zeros(1)).clone() for p in parameters]
        optimizer.found_inf = torch.tensor(flag)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter) * factor
        optimizer.step()
        for parameter, old, buffer in zip(parameters, before, momentum, strict=True):
            assert torch.equal(parameter, old) == bool(flag)
            assert torch.equal(optimizer.state[parameter]["momentum_buffer"], buffer) == bool(flag)
    assert all(p.isfinite().all() for p in parameters)


@pytest.mark.parametrize("shape", SHAPES)
def test_updates_are_as_large_as_those_of_adamw_whatever_the_shape(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    optimizer = Muon([weight], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    weight.grad = torch.randn(shape)
    optimizer.step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.3)
