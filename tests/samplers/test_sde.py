"""Stochastic samplers on Gaussian data, where every marginal is known; their ends; noise that belongs to an image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raekit.samplers.ode import euler
from raekit.samplers.sde import DIFFUSIONS, noise_of, published_sbdm, sde
from raekit.transport.timesteps import linear_grid

STD = 0.5
"""Of the data, N(0, STD^2)."""


def gaussian(z_t: Tensor, t: Tensor) -> Tensor:
    """The exact mean velocity for that data: ``z_t`` is N(0, (1 - t)^2 STD^2 + t^2) and the velocity linear in it."""
    t = t.view(-1, 1)
    return (t - (1 - t) * STD**2) / ((1 - t) ** 2 * STD**2 + t**2) * z_t


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in range(first, first + count)]


def spread(num_steps: int, **options: object) -> float:
    """Standard deviation of what Gaussian noise becomes; the statistical error is below 1 %."""
    rows = generators(16)
    z = torch.stack([torch.randn(2000, generator=g) for g in rows])
    return sde(gaussian, z, linear_grid(num_steps), noise=noise_of(rows, z), **options).std().item()


@pytest.mark.parametrize("diffusion", sorted(DIFFUSIONS))
def test_every_diffusion_has_the_marginal_of_the_path(diffusion: str) -> None:
    assert spread(200, diffusion=diffusion) == pytest.approx(STD, rel=0.03)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_scale_of_the_diffusion_leaves_the_marginal_alone(scale: float) -> None:
    assert spread(200, diffusion_scale=scale) == pytest.approx(STD, rel=0.03)


def test_marginals_hold_on_the_way_as_well() -> None:
    seen: dict[float, float] = {}
    rows = generators(16)
    z = torch.stack([torch.randn(2000, generator=g) for g in rows])
    sde(gaussian, z, linear_grid(200), lambda r: seen.update({r["t"]: r["z_t"].std().item()}), noise=noise_of(rows, z))
    for t, std in list(seen.items())[::20]:
        assert std == pytest.approx(((1 - t) ** 2 * STD**2 + t**2) ** 0.5, rel=0.03)


def test_noise_is_drawn_where_its_generator_lies() -> None:
    z = torch.zeros(2, 3)
    with torch.device("meta"):  # where torch puts what names no device
        noise = noise_of(generators(2), z)()
    assert torch.equal(noise, noise_of(generators(2), z)())


def test_without_diffusion_it_is_euler() -> None:
    z, rows = torch.randn(3, 4).double(), generators(3)
    drawn = sde(gaussian, z, linear_grid(7, 2.0), noise=noise_of(rows, z), diffusion_scale=0.0)
    torch.testing.assert_close(drawn, euler(gaussian, z, linear_grid(7, 2.0)))


@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_the_last_step_lands_on_the_clean_latent_without_noise(num_steps: int) -> None:
    x, z, draws = torch.randn(2, 3), torch.randn(2, 3), []

    def noise() -> Tensor:
        draws.append(1)
        return torch.randn(2, 3)

    drawn = sde(lambda z_t, t: (z_t - x) / t[:, None], z, linear_grid(num_steps, 7.0), noise=noise)
    torch.testing.assert_close(drawn, x, rtol=1e-4, atol=1e-4)
    assert len(draws) == num_steps - 1


@pytest.mark.parametrize("diffusion", sorted(DIFFUSIONS))
def test_nothing_is_infinite_at_the_ends(diffusion: str) -> None:
    z = torch.randn(2, 3)
    assert sde(gaussian, z, linear_grid(3), noise=lambda: torch.randn(2, 3), diffusion=diffusion).isfinite().all()
    ends = DIFFUSIONS[diffusion](torch.tensor([0.0, 0.3, 1.0]))
    assert ends.isfinite().all() and (ends >= 0).all()


def test_the_published_default_is_unusable() -> None:
    assert published_sbdm(torch.tensor([0.5])).item() == -1
    assert published_sbdm(torch.tensor([1.0])).isinf()


def test_noise_of_an_image_does_not_feel_its_batch() -> None:
    z = torch.randn(3, 4)
    together = sde(gaussian, z, linear_grid(5), noise=noise_of(generators(3), z))
    alone = sde(gaussian, z[2:], linear_grid(5), noise=noise_of(generators(1, first=2), z[2:]))
    torch.testing.assert_close(together[2:], alone, rtol=1e-6, atol=1e-6)


def test_a_source_of_noise_is_required() -> None:
    with pytest.raises(ValueError, match="needs a source of noise"):
        sde(gaussian, torch.zeros(1, 2), linear_grid(2))
