"""What every registered sampler promises; a new row is tested the day it is added."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from raekit.samplers import SAMPLERS
from raekit.samplers.ode import VelocityFn
from raekit.samplers.sde import noise_of
from raekit.transport import GRIDS

PUBLISHED = {name for name in SAMPLERS if "published" in name}
"""Those that repeat a published mistake."""
STOCHASTIC = {name for name in SAMPLERS if "noise" in inspect.signature(SAMPLERS[name]).parameters}
TRUE_SAMPLERS = sorted(set(SAMPLERS) - PUBLISHED - STOCHASTIC)
"""Those of the ODE."""


def sample(name: str, velocity_fn: VelocityFn, z: Tensor, times: Tensor, **options: object) -> Tensor:
    """A run of a sampler, with the same noise each time where it wants any."""
    if name in STOCHASTIC:
        options["noise"] = noise_of([torch.Generator("cpu").manual_seed(seed) for seed in range(len(z))], z)
    return SAMPLERS[name](velocity_fn, z, times, **options)


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
    first, second = (sample(name, velocity, z, times) for _ in range(2))
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


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - PUBLISHED))
def test_a_known_picture_is_reached_from_any_noise(name: str) -> None:
    x, z = torch.randn(2, 3), torch.randn(2, 3)
    drawn = sample(name, lambda z_t, t: (z_t - x) / t[:, None], z, GRIDS["linear"](6, 3.0))
    torch.testing.assert_close(drawn, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_the_callback_hears_of_every_step(name: str) -> None:
    records: list[dict[str, object]] = []
    sample(name, lambda z, t: z * t[:, None], torch.randn(2, 3), GRIDS["linear"](5, 2.0), callback=records.append)
    assert [record["step"] for record in records] == list(range(len(records))) and len(records) in (4, 5)
    assert all({"num_steps", "t", "z_t", "x"} < record.keys() for record in records)
