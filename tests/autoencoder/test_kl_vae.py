"""The small VAE: its sizes, a loss that trains it, and a posterior that the loss keeps in bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raekit.autoencoder.kl_vae import KLVAE, LOG_VAR_RANGE
from raekit.errors import UserError
from raekit.training.draws import Draws


def tiny(**options: object) -> KLVAE:
    torch.manual_seed(0)
    settings = {"input_size": 16, "latent_channels": 3, "stem_size": 2, "widths": [16, 16], "depth": 1, **options}
    return KLVAE(KLVAE.Config.model_validate(settings))


def images(batch: int = 4) -> Tensor:
    """Flat colours and half-planes: what a few steps can learn."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.rand((batch, 3, 1, 2), generator=generator)
    return colours.repeat_interleave(8, dim=3).expand(batch, 3, 16, 16).contiguous()


def test_the_default_has_as_many_tokens_as_the_nano_encoder() -> None:
    with torch.device("meta"):
        model = KLVAE(KLVAE.Config())
    assert model.shape == (64, 4, 4) and model.dim == 1024 and model.output_size == 64
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in model.trained().items()}
    assert counts == {"encoder": 878_304, "decoder": 859_760}


@pytest.mark.parametrize(("stem_size", "widths", "cell"), [(4, [8], 4), (2, [8, 12, 16], 8), (1, [8, 8], 2)])
def test_levels_halve_the_sides(stem_size: int, widths: list[int], cell: int) -> None:
    model = tiny(stem_size=stem_size, widths=widths, patch_size=1)
    assert model.config.cell == cell and model.shape == (3, 16 // cell, 16 // cell)
    cells = torch.randn(2, 3, 16 // cell, 16 // cell)
    assert model.posterior(images(2)).mean.shape == cells.shape and model.draw(cells).shape == (2, 3, 16, 16)


def test_training_redraws_pictures_and_kl_draws_the_posterior_to_the_prior() -> None:
    def error(model: KLVAE) -> float:
        return (model(images(8)) - images(8)).abs().mean().item()

    def train(kl: float) -> tuple[float, float]:
        model, image = tiny(), images(8)
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        for step in range(60):
            redrawn, terms = model.redraw(model.precompute(image), Draws(step, range(8)))
            loss = (redrawn - image).abs().mean() + kl * terms["kl"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return error(model), terms["kl"].item()

    untrained = error(tiny())
    (sharp, far), (dull, near) = train(1e-4), train(10.0)
    assert sharp < 0.4 * untrained and sharp < 0.7 * dull
    assert near < 0.1 * far


def test_noise_is_the_posteriors() -> None:
    model, draws = tiny(), Draws(0, range(4))
    posterior = model.posterior(images())
    redrawn, terms = model.redraw(images(), draws)
    torch.testing.assert_close(redrawn, model.draw(posterior.sample(Draws(0, range(4)))))
    torch.testing.assert_close(terms["kl"], posterior.divergence())


def test_a_wild_log_variance_stays_in_bounds() -> None:
    model = tiny()
    with torch.no_grad():
        model.encoder.head.bias[3:] = torch.tensor([1e4, -1e4, 0.0])
    log_var = model.posterior(images()).log_var
    assert log_var.min() == LOG_VAR_RANGE[0] and log_var.max() == LOG_VAR_RANGE[1]
    assert model.posterior(images()).divergence().isfinite()


def test_moments_stay_fp32_under_bf16_autocast() -> None:
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.posterior(images())
    assert posterior.mean.dtype == torch.float32
    assert (posterior.mean - model.posterior(images()).mean).abs().mean() < 0.05


def test_widths_of_broken_groups_are_refused() -> None:
    with pytest.raises(UserError, match=r"autoencoder.widths: \[16, 18\] must be multiples of 4"):
        tiny(widths=[16, 18])
