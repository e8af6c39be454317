"""Shifts, time laws and grids against their closed forms and the published numbers."""

import math

import pytest
import torch

from raekit.errors import UserError
from raekit.transport import GRIDS, TIMESTEPS
from raekit.transport.timesteps import (
    late_start,
    linear_grid,
    rae_logit_normal,
    rae_published_grid,
    rae_published_sde_grid,
    scale_rae_published_grid,
    shift_times,
    time_shift,
)


@pytest.mark.parametrize(
    ("dim", "factor"),
    [(196608, 48**0.5), (786432, 192**0.5), (294912, 72**0.5), (262144, 8.0), (16384, 2.0), (4096, 1.0)],
)
def test_shift_factor_of_published_latents(dim: int, factor: float) -> None:
    assert time_shift(dim) == pytest.approx(factor)


def test_shift_keeps_the_ends_and_the_order_and_composes() -> None:
    t = torch.linspace(0, 1, 50, dtype=torch.float64)
    shifted = shift_times(t, 5.0)
    assert shifted[0] == 0
    assert shifted[-1] == 1
    assert (shifted.diff() > 0).all()
    torch.testing.assert_close(shift_times(shifted, 1 / 5.0), t)


@pytest.mark.parametrize(
    ("law", "quantiles"),
    [("rae_logit_normal", [0.40, 0.66, 0.874, 0.961, 0.986]), ("rae_uniform", [0.065, 0.43, 0.874, 0.984, 0.998])],
)
def test_published_quantiles_of_training_times(law: str, quantiles: list[float]) -> None:
    draws = torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99])
    t = shift_times(TIMESTEPS[law](draws), 48**0.5)
    torch.testing.assert_close(t, torch.tensor(quantiles), rtol=0, atol=6e-3)


def test_logit_normal_of_scale_rae_has_the_published_mean_and_median() -> None:
    draws = (torch.arange(20000) + 0.5) / 20000
    t = shift_times(TIMESTEPS["logit_normal"](draws), 72**0.5)
    assert t.mean().item() == pytest.approx(0.860, abs=2e-3)
    assert t.median().item() == pytest.approx(0.895, abs=2e-3)


@pytest.mark.parametrize("name", sorted(TIMESTEPS))
def test_laws_are_monotone_stay_in_range_and_keep_the_dtype(name: str) -> None:
    draws = torch.linspace(0, 1 - 2**-24, 1001)
    t = TIMESTEPS[name](draws)
    assert t.dtype == draws.dtype
    assert t.min() >= 0
    assert t.max() <= 1
    assert (t.diff() >= 0).all()


def test_truncation_ends_at_the_published_bound() -> None:
    assert rae_logit_normal(torch.tensor([1.0]), mean=0.5, std=0.8).item() == pytest.approx(0.999, abs=1e-6)


def test_linear_grid_has_one_point_more_than_steps() -> None:
    grid = linear_grid(50, 7.0)
    assert len(grid) == 51
    assert grid[0] == 1
    assert grid[-1] == 0
    torch.testing.assert_close(linear_grid(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))


def test_rae_grid_has_the_published_points() -> None:
    grid = rae_published_grid(50, math.sqrt(48))
    assert len(grid) == 50
    expected = torch.tensor([1, 0.997005, 0.993902], dtype=torch.float64)
    torch.testing.assert_close(grid[:3], expected, rtol=0, atol=1e-5)
    assert grid[-2].item() == pytest.approx(0.131505, abs=1e-6)
    assert grid[-1].item() == pytest.approx(0.006887, abs=1e-6)
    assert grid.diff().sum().item() == pytest.approx(-0.993113, abs=1e-6)


def test_scale_rae_grid_has_the_published_points() -> None:
    grid = scale_rae_published_grid(50, math.sqrt(72))
    assert len(grid) == 50
    assert grid[0] == 1
    published = torch.tensor([0.99760, 0.15399, 0.00842], dtype=torch.float64)
    torch.testing.assert_close(grid[[1, -2, -1]], published, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_grids_start_at_noise_and_decrease(name: str) -> None:
    grid = GRIDS[name](10, 3.0)
    assert grid[0] == 1
    assert (grid.diff() < 0).all()


@pytest.mark.parametrize(("name", "least"), [("rae_published", 2), ("scale_rae_published", 3)])
def test_published_grids_refuse_to_make_no_step(name: str, least: int) -> None:
    with pytest.raises(UserError, match=f"give {least} or more"):
        GRIDS[name](least - 1)
    assert len(GRIDS[name](least)) == least


def test_rae_stochastic_grid_stops_at_the_shifted_last_step() -> None:
    grid = rae_published_sde_grid(6, math.sqrt(48))
    assert len(grid) == 6
    assert grid[-1].item() == pytest.approx(0.2240, abs=1e-4)


def test_no_steps_make_no_grid() -> None:
    with pytest.raises(UserError, match="steps: 0 makes no picture"):
        linear_grid(0)


def test_a_late_start_keeps_every_step_of_what_is_left() -> None:
    grid = late_start(linear_grid(4, 3.0), 0.5, 3.0)
    before_shift = torch.tensor([0.5, 0.375, 0.25, 0.125, 0], dtype=torch.float64)
    torch.testing.assert_close(grid, shift_times(before_shift, 3.0))
    assert torch.equal(late_start(linear_grid(4, 3.0), 1.0, 3.0), linear_grid(4, 3.0))


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_late_start_of_any_grid_begins_at_the_shifted_strength(name: str) -> None:
    grid = late_start(GRIDS[name](10, 3.0), 0.4, 3.0)
    assert len(grid) == len(GRIDS[name](10, 3.0)) and (grid.diff() < 0).all()
    assert grid[0].item() == pytest.approx(3 * 0.4 / (1 + 2 * 0.4))
