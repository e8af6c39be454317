"""Settings reach the sampler that has an option for them, and no other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raekit.samplers import SAMPLERS
from raekit.samplers.integrate import integrate
from raekit.samplers.ode import dopri5, euler
from raekit.samplers.sde import noise_of, sde
from raekit.samplers.settings import Sampling
from raekit.transport import GRIDS
from raekit.transport.timesteps import late_start, linear_grid


def field(z: Tensor, t: Tensor) -> Tensor:
    return torch.cos(3 * t)[:, None] * z


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in range(count)]


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_every_sampler_runs_on_every_grid(name: str, grid: str) -> None:
    z = torch.randn(2, 3)
    drawn = integrate(field, z, Sampling(sampler=name, time_grid=grid, steps=4), 2.0, seeded(2))
    assert drawn.shape == z.shape and drawn.isfinite().all()


def test_steps_and_shift_make_the_grid() -> None:
    z = torch.randn(2, 3)
    assert torch.equal(integrate(field, z, Sampling(steps=4), 2.0, seeded(2)), euler(field, z, linear_grid(4, 2.0)))


def test_options_arrive() -> None:
    z, grid = torch.randn(2, 3), linear_grid(4)
    adaptive = integrate(field, z, Sampling(sampler="dopri5", steps=4, tolerance=1e-2), 1.0, seeded(2))
    assert torch.equal(adaptive, dopri5(field, z, grid, tolerance=1e-2))
    settings = Sampling(sampler="sde", steps=4, diffusion="decreasing", diffusion_scale=0.5)
    noise = noise_of(seeded(2), z)
    expected = sde(field, z, grid, noise=noise, diffusion="decreasing", diffusion_scale=0.5)
    assert torch.equal(integrate(field, z, settings, 1.0, seeded(2)), expected)


def test_the_callback_sees_every_step() -> None:
    records: list[dict[str, object]] = []
    integrate(field, torch.randn(2, 3), Sampling(sampler="sde", steps=3), 1.0, seeded(2), records.append)
    assert [record["step"] for record in records] == [0, 1, 2]


def test_a_late_start_walks_the_rest_of_the_grid() -> None:
    z = torch.randn(2, 3)
    late = integrate(field, z, Sampling(sampler="euler", steps=4), 3.0, seeded(2), strength=0.5)
    assert torch.equal(late, euler(field, z, late_start(linear_grid(4, 3.0), 0.5, 3.0)))
