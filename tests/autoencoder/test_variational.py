"""Posterior, divergence, tokens and statistics of latent spaces that are distributions, in closed form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny_autoencoders
from raekit.autoencoder.kl_vae import KLVAE
from raekit.autoencoder.variational import Posterior
from raekit.errors import UserError
from raekit.training.draws import Draws


def space(**options: object) -> KLVAE:
    built = tiny_autoencoders.build("kl_vae", Path(), **options)
    assert isinstance(built, KLVAE)
    return built


def images(batch: int = 4) -> Tensor:
    return torch.rand((batch, 3, 16, 16), generator=torch.Generator().manual_seed(1))


def test_divergence_is_that_of_two_gaussians() -> None:
    mean, std = torch.tensor([[0.0, 1.5]]), torch.tensor([[1.0, 0.3]])
    posterior = Posterior(mean, 2 * std.log())
    torch.testing.assert_close(posterior.std, std)
    normals = [torch.distributions.Normal(m, s) for m, s in ((mean, std), (torch.zeros(1, 2), torch.ones(1, 2)))]
    torch.testing.assert_close(posterior.divergence(), torch.distributions.kl_divergence(*normals).mean())
    assert Posterior(torch.zeros(1, 2), torch.zeros(1, 2)).divergence() == 0


def test_samples_have_the_posteriors_moments_and_pass_gradients() -> None:
    mean, log_var = (torch.full((1, 1), value, requires_grad=True) for value in (2.0, -1.0))
    posterior = Posterior(mean.expand(4000, 1), log_var.expand(4000, 1))
    drawn = posterior.sample(Draws(0, range(4000)))
    torch.testing.assert_close(drawn.mean(), torch.tensor(2.0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std(), torch.tensor(-0.5).exp(), atol=0.03, rtol=0)
    drawn.sum().backward()
    assert mean.grad == 4000 and log_var.grad is not None and log_var.grad != 0


def test_tokens_hold_cells_in_the_order_of_im2col() -> None:
    """Channel slowest, then row, then column: the published layout of VAE tokens (Scale-RAE)."""
    model, cells = space(), torch.randn(2, 3, 4, 4)
    latent = model.to_latent(cells)
    assert latent.shape == (2, 12, 2, 2)
    assert torch.equal(latent.flatten(2), F.unfold(cells, kernel_size=2, stride=2))
    assert torch.equal(model.to_cells(latent), cells)


def test_encode_is_the_mean_and_a_sample_is_not() -> None:
    mean, sampled = space(), space(posterior="sample")
    assert not mean.is_sampled and sampled.is_sampled
    draws = Draws(0, range(4))
    assert torch.equal(mean.encode_sample(images(), draws), mean.encode(images()))
    latent = sampled.encode_sample(images(), draws)
    assert torch.equal(sampled.encode(images()), mean.encode(images()))
    posterior = sampled.posterior(images())
    torch.testing.assert_close(latent, sampled.to_latent(posterior.sample(Draws(0, range(4)))))
    assert not torch.allclose(latent, sampled.encode_sample(images(), Draws(1, range(4))))


@pytest.mark.parametrize("form", ["per_channel", "per_position"])
def test_statistics_are_those_of_what_generators_see(form: str) -> None:
    axes = (0, 2, 3) if form == "per_channel" else (0,)
    model = space(statistics=form, posterior="sample")
    model.fit_statistics(torch.split(images(64), 30))
    assert model.statistics.form == form
    # The same 64 images, 30 draws each.
    draws = [model.encode_sample(images(64), Draws(seed, range(64))) for seed in range(30)]
    latent = torch.cat(draws)
    assert latent.mean(axes).abs().max() < 0.15
    torch.testing.assert_close(latent.var(axes), torch.ones_like(latent.var(axes)), atol=0.15, rtol=0)


def test_statistics_none_change_nothing() -> None:
    model = space(statistics="none")
    model.fit_statistics([images()])
    assert torch.equal(model.encode(images()), model.to_latent(model.posterior(images()).mean))


def test_only_images_of_another_size_are_resized() -> None:
    model = space()
    assert model.resize(images()) is not None and torch.equal(model.resize(images()), images())
    resized = model.resize(torch.rand(1, 3, 40, 24))
    assert resized.shape == (1, 3, 16, 16) and 0 <= resized.min() and resized.max() <= 1
    flat = model.resize(torch.full((1, 3, 40, 24), 0.25))
    torch.testing.assert_close(flat, torch.full((1, 3, 16, 16), 0.25))


def test_images_that_are_no_whole_number_of_tokens_are_refused() -> None:
    with pytest.raises(UserError, match=r"autoencoder.input_size: 20 must be a multiple of 8.*2 cells of 4 px"):
        space(input_size=20)


def test_weights_under_another_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"head\.weight is no weight"):
        space().save(tmp_path / "a", trained={"head.weight": torch.zeros(1)})
    assert not (tmp_path / "a").exists()
