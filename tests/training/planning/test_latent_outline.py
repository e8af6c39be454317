"""Latent spaces that are not there yet."""

from __future__ import annotations

import pytest

from raekit.autoencoder.rae import RAE
from raekit.autoencoder.vae import VAE
from raekit.errors import UserError
from raekit.training.planning.latent_outline import outline


def test_an_rae_by_its_encoder() -> None:
    latent = outline(RAE.Config.model_validate({"encoder": {"name": "dinov2", "size": "small", "input_size": 224}}))
    assert latent.shape == (384, 16, 16) and latent.dim == 98_304 and latent.image_size == 224
    assert latent.encoder is not None and next(latent.encoder.parameters()).is_meta
    half = {"name": "siglip2", "size": "base", "precision": "bf16"}
    assert outline(RAE.Config.model_validate({"encoder": half})).weight_bytes == 2


@pytest.mark.parametrize(("model", "shape", "gmac"), [("flux", (64, 16, 16), 136.5), ("sdxl", (16, 16, 16), 136.4)])
def test_a_published_vae(model: str, shape: tuple[int, int, int], gmac: float) -> None:
    """RAE, figure 2, gives 135 GFLOPs for the SD-VAE's encoder, which has the same layers."""
    pytest.importorskip("diffusers")
    latent = outline(VAE.Config(model=model))
    assert latent.shape == shape
    assert latent.work().forward / 2e9 == pytest.approx(gmac, abs=0.1)


def test_a_vae_that_only_its_files_know() -> None:
    with pytest.raises(UserError, match="known from its files alone"):
        outline(VAE.Config(model="somebody/vae"))
