"""Pixel losses on pictures whose distance is known."""

from __future__ import annotations

import pytest
import torch

from raekit.losses.pixels import gradient_l1, l1


def test_equal_pictures_cost_nothing_and_a_shift_costs_its_size() -> None:
    image = torch.rand(2, 3, 8, 8)
    assert l1(image, image) == gradient_l1(image, image) == 0
    assert l1(image + 0.25, image).item() == pytest.approx(0.25, rel=1e-5)


def test_a_constant_offset_has_no_gradient_and_a_ramp_has_its_slope() -> None:
    flat = torch.zeros(1, 3, 8, 8)
    assert gradient_l1(flat + 0.5, flat) == 0
    ramp = (0.1 * torch.arange(8.0)).expand(1, 3, 8, 8)
    assert gradient_l1(ramp, flat).item() == pytest.approx(0.1, rel=1e-5)
