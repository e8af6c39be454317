"""Averages by hand."""

from __future__ import annotations

import torch
from torch import nn

from raekit.training.ema import EMA


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
