"""Paths have the derivative they claim, and conversions between predictions are inverses."""

import pytest
import torch

from raekit.transport.path import PATHS, from_velocity, linear, path_sample, score, to_velocity


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 2, 3, 3).double(), torch.randn(6, 2, 3, 3).double(), torch.linspace(0.05, 0.95, 6).double()


def test_linear_path_runs_from_data_to_noise() -> None:
    z, eps = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    point = path_sample(z, eps, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(point.z_t, torch.stack([z[0], eps[1]]))
    torch.testing.assert_close(point.velocity, eps - z)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_velocity_is_the_derivative_of_z_t(name: str, draws: tuple[torch.Tensor, ...]) -> None:
    z, eps, t = draws
    h = 1e-6
    ahead, behind = (path_sample(z, eps, t + dt, PATHS[name]).z_t for dt in (h, -h))
    torch.testing.assert_close((ahead - behind) / (2 * h), path_sample(z, eps, t, PATHS[name]).velocity)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_every_path_ends_in_noise(name: str) -> None:
    end = PATHS[name](torch.tensor([1.0], dtype=torch.float64))
    assert end.sigma.item() == pytest.approx(1)
    assert end.alpha.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("prediction", ["velocity", "x", "eps"])
def test_conversions_are_inverses(prediction: str, draws: tuple[torch.Tensor, ...]) -> None:
    z, eps, t = draws
    point = path_sample(z, eps, t)
    truth = {"velocity": point.velocity, "x": z, "eps": eps}[prediction]
    torch.testing.assert_close(from_velocity(prediction, point.velocity, point.z_t, t), truth)
    torch.testing.assert_close(to_velocity(prediction, truth, point.z_t, t), point.velocity)


@pytest.mark.parametrize(("prediction", "t"), [("x", 0.0), ("eps", 1.0)])
def test_conversions_stay_finite_at_the_ends(prediction: str, t: float) -> None:
    z_t, output = torch.randn(1, 2, 2, 2), torch.randn(1, 2, 2, 2)
    assert to_velocity(prediction, output, z_t, torch.tensor([t])).isfinite().all()


def test_score_of_one_gaussian_is_exact() -> None:
    """Data N(0, s^2): z_t is N(0, (1-t)^2 s^2 + t^2), and the mean velocity given z_t is linear in it."""
    s, t = 0.5, torch.tensor([0.3], dtype=torch.float64)
    variance = (1 - t) ** 2 * s**2 + t**2
    z_t = torch.randn(1, 4, dtype=torch.float64)
    velocity = (t - (1 - t) * s**2) / variance * z_t
    torch.testing.assert_close(score(velocity, z_t, t), -z_t / variance)


def test_linear_coefficients_keep_the_dtype() -> None:
    assert all(value.dtype == torch.float32 for value in linear(torch.tensor([0.5])))
