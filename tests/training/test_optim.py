"""Schedules in closed form, averaging by hand, and an optimiser that survives the way through a file."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raekit.training.optim import (
    EMA,
    OptimConfig,
    ScheduleConfig,
    build_optimizer,
    load_optimizer_tensors,
    lr_factor,
    optimizer_tensors,
)


def test_cosine_meets_its_ends_and_its_middle() -> None:
    schedule = ScheduleConfig(shape="cosine", warmup_steps=10, final_factor=0.1)
    assert lr_factor(0, schedule, 110) == pytest.approx(0.1)
    assert lr_factor(9, schedule, 110) == pytest.approx(1.0)
    assert lr_factor(60, schedule, 110) == pytest.approx(0.55)
    assert lr_factor(110, schedule, 110) == lr_factor(500, schedule, 110) == pytest.approx(0.1)


def test_linear_and_constant() -> None:
    assert lr_factor(25, ScheduleConfig(shape="linear"), 100) == pytest.approx(0.75)
    assert lr_factor(99, ScheduleConfig(shape="constant"), 100) == 1.0


def test_the_average_follows_by_its_decay() -> None:
    weight = nn.Parameter(torch.zeros(2))
    ema = EMA({"w": weight}, 0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    for step in range(1, 4):
        ema.update()
        torch.testing.assert_close(ema.values["w"], torch.full((2,), 1 - 0.9**step))


def test_swapping_twice_restores_both() -> None:
    weight = nn.Parameter(torch.ones(3))
    ema = EMA({"w": weight}, 0.5)
    ema.values["w"].fill_(7.0)
    ema.swap()
    assert weight.tolist() == [7.0] * 3
    ema.swap()
    assert weight.tolist() == [1.0] * 3 and ema.values["w"].tolist() == [7.0] * 3


def test_only_matrices_decay_and_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model.parameters(), OptimConfig(weight_decay=0.1))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == 2 * 3 + 3 + 3 + 3


def test_state_survives_the_file() -> None:
    def run(steps: int, resumed_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(4, 4))
        optimizer = build_optimizer([weight], OptimConfig())
        for step in range(steps):
            if step == resumed_at:
                tensors = {k: v.clone() for k, v in optimizer_tensors(optimizer).items()}
                optimizer = build_optimizer([weight], OptimConfig())
                load_optimizer_tensors(optimizer, tensors)
            optimizer.zero_grad()
            (weight.square().sum() * (step + 1)).backward()
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(6, None), run(6, 3))
