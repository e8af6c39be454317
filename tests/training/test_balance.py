"""Slopes by hand: a picture that is one linear layer's output."""

from __future__ import annotations

import torch
from torch import nn

from raekit.training.balance import Drawn, Slope, shares


def test_the_slope_reaches_pixels_and_last_layer() -> None:
    weight = nn.Parameter(torch.tensor([2.0, 3.0]))
    hidden = torch.tensor([5.0, 7.0])
    image = weight * hidden
    slope = Slope.of(image.square().sum() / 2, image, weight)
    assert torch.equal(slope.pixels, image.detach())
    assert torch.equal(slope.last_layer, image.detach() * hidden)
    assert weight.grad is None


def test_the_way_back_carries_the_pixels_and_the_latent_spaces_own_terms() -> None:
    weight = nn.Parameter(torch.tensor(2.0))
    drawn = Drawn(3 * weight, {"l1": torch.tensor(1.0)}, {"kl": 5 * weight})
    drawn.backward(torch.tensor(10.0), share=0.5)
    assert weight.grad is not None and weight.grad.item() == 0.5 * (3 * 10 + 5)
    assert drawn.terms["loss"].item() == 11.0


def test_shares_add_up() -> None:
    found = shares({"l1": torch.tensor([3.0, 4.0]), "gram": torch.tensor([15.0])})
    assert found["share/l1"].item() == 0.25 and found["share/gram"].item() == 0.75
