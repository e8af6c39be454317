"""Samplers against ODEs whose solution is known on paper, and what the callback sees."""

import math

import pytest
import torch
from torch import Tensor

from raekit.errors import UserError
from raekit.samplers.ode import dopri5, euler, heun, scale_rae_published
from raekit.transport.timesteps import linear_grid, scale_rae_published_grid


def growth(z: Tensor, t: Tensor) -> Tensor:
    """dz/dt = z, so z(0) = z(1) / e."""
    return z


def rotating(z: Tensor, t: Tensor) -> Tensor:
    """dz/dt = cos(3 t) z + t: no closed solver is exact on it."""
    return torch.cos(3 * t)[:, None] * z + t[:, None]


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_euler_is_exact_on_straight_paths(num_steps: int) -> None:
    """One data point: the velocity (z_t - x) / t is constant along each path."""
    x, eps = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    z = euler(lambda z_t, t: (z_t - x) / t[:, None], eps, linear_grid(num_steps, 2.0))
    torch.testing.assert_close(z, x)


@pytest.mark.parametrize(("sampler", "ratio"), [(euler, 2), (heun, 4)])
def test_error_falls_with_the_order_of_the_method(sampler: object, ratio: float) -> None:
    z = torch.ones(1, 1, dtype=torch.float64)
    errors = [abs(sampler(growth, z, linear_grid(n)).item() - math.exp(-1)) for n in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(ratio, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(ratio, rel=0.1)


def test_heun_averages_the_slopes_of_both_ends() -> None:
    """On dz/dt = t the trapezoid is exact; a grid that stops above 0 has no Euler step."""
    z = heun(lambda z, t: t[:, None].expand_as(z), torch.zeros(1, 2).double(), torch.tensor([1.0, 0.5, 0.1]).double())
    torch.testing.assert_close(z, torch.full((1, 2), (0.1**2 - 1) / 2).double())


@pytest.mark.parametrize(("sampler", "calls"), [(euler, 5), (heun, 9)])
def test_number_of_evaluations_and_their_times(sampler: object, calls: int) -> None:
    seen: list[Tensor] = []

    def record(z: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return z

    sampler(record, torch.zeros(3, 2).bfloat16(), linear_grid(5))
    assert len(seen) == calls
    assert all(t.shape == (3,) and t.dtype == torch.float32 and t.min() > 0 for t in seen)


def test_scale_rae_starts_late_and_ends_with_a_step_towards_noise() -> None:
    grid, seen = scale_rae_published_grid(50, math.sqrt(72)), []

    def record(z: Tensor, t: Tensor) -> Tensor:
        seen.append(t[0].item())
        return torch.ones_like(z)

    z = scale_rae_published(record, torch.zeros(1, 1).double(), grid)
    assert len(seen) == 49
    assert seen == pytest.approx([*grid[1:-1].tolist(), grid[1].item()])
    assert z.item() == pytest.approx((grid[-1] - grid[1] + grid[0] - grid[1]).item())


def test_dopri5_meets_its_tolerance_and_agrees_with_torchdiffeq() -> None:
    torchdiffeq = pytest.importorskip("torchdiffeq")
    z, times = torch.randn(2, 3).double(), linear_grid(3)
    oracle = torchdiffeq.odeint(
        lambda t, z: rotating(z, t.expand(2)), z, times, method="dopri5", rtol=1e-10, atol=1e-10
    )[-1]
    torch.testing.assert_close(dopri5(rotating, z, times, tolerance=1e-8), oracle, rtol=1e-7, atol=1e-7)
    loose = dopri5(rotating, z, times, tolerance=1e-2)
    assert (loose - oracle).abs().max() > 1e-7


def test_dopri5_says_when_the_tolerance_is_too_fine() -> None:
    with pytest.raises(UserError, match="tolerance"):
        dopri5(
            lambda z, t: (t > 0.5).to(z)[:, None].expand_as(z),
            torch.zeros(1, 1).double(),
            linear_grid(1),
            tolerance=1e-14,
        )


@pytest.mark.parametrize("sampler", [euler, heun])
def test_callback_gets_one_record_per_step(sampler: object) -> None:
    x, eps, records = torch.randn(2, 3).double(), torch.randn(2, 3).double(), []
    times = linear_grid(4, 2.0)
    sampler(lambda z_t, t: eps - x, eps, times, records.append)
    assert [r["step"] for r in records] == [0, 1, 2, 3]
    assert {r["num_steps"] for r in records} == {4}
    assert [r["t"] for r in records] == times[:-1].tolist()
    for r in records:
        torch.testing.assert_close(r["z_t"], (1 - r["t"]) * x + r["t"] * eps)
        torch.testing.assert_close(r["x"], x)


def test_gradients_flow_to_the_start() -> None:
    z = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(euler(growth, z, linear_grid(10)).sum(), z)
    assert gradient.item() == pytest.approx(0.9**10)


def test_dopri5_tells_its_callback_of_every_time_it_has_passed() -> None:
    x, eps, records, times = torch.randn(2, 3).double(), torch.randn(2, 3).double(), [], linear_grid(40)
    dopri5(lambda z_t, t: eps - x, eps, times, records.append)
    assert [(r["step"], r["num_steps"]) for r in records] == [(step, 40) for step in range(40)]
    assert all(r["t"] <= t + 1e-12 for r, t in zip(records, times.tolist(), strict=False))
    assert records[0]["t"] == 1
    for r in records:
        torch.testing.assert_close(r["x"], x)


def test_dopri5_asks_no_more_for_a_finer_grid() -> None:
    calls = [0, 0]
    for index, num_steps in enumerate((1, 100)):

        def counted(z: Tensor, t: Tensor, index: int = index) -> Tensor:
            calls[index] += 1
            return rotating(z, t)

        dopri5(counted, torch.ones(1, 2).double(), linear_grid(num_steps), tolerance=1e-3)
    assert max(calls) < 40


def test_a_sample_has_adaptive_steps_of_its_own() -> None:
    """One stiff sample beside an easy one: the easy one ends with the very bits it has alone."""
    z, rates = torch.randn(2, 3).double(), torch.tensor([[1.0], [40.0]], dtype=torch.float64)
    together = dopri5(lambda z, t: rates * z * t[:, None], z, linear_grid(2), tolerance=1e-4)
    alone = dopri5(lambda z, t: rates[:1] * z * t[:, None], z[:1], linear_grid(2), tolerance=1e-4)
    assert torch.equal(together[:1], alone)


@pytest.mark.parametrize("sampler", [euler, heun, dopri5])
def test_a_model_without_a_velocity_at_data_is_never_asked_there(sampler: object) -> None:
    """An x prediction that is a little off: its velocity grows as 1 / t, yet the end is the prediction itself."""
    x, eps = torch.randn(2, 3).double(), torch.randn(2, 3).double()

    def velocity(z_t: Tensor, t: Tensor) -> Tensor:
        assert t.min() > 0
        return (z_t - x - 0.01 * z_t.sin()) / t[:, None]

    z = sampler(velocity, eps, linear_grid(20))
    torch.testing.assert_close(z, x, rtol=0, atol=0.03)
