"""The nano RAE and the nano VAE: recipes that differ by the latent space, and by nothing that would favour one."""

from __future__ import annotations

from pathlib import Path

import torch

from raekit.autoencoder import AUTOENCODERS
from raekit.training.recipe import load_recipe
from raekit.training.stage1 import Stage1
from raekit.training.stage2 import Stage2

NANO = Path(__file__).parents[2] / "recipes/nano"


def test_generators_differ_by_the_latent_space_alone() -> None:
    ours, twin = (load_recipe(NANO / f"{name}.yaml").model_dump() for name in ("generator", "generator_vae"))
    assert {key for key in ours if ours[key] != twin[key]} == {"run", "latent_space"}


def test_autoencoders_differ_by_the_network_and_its_schooling() -> None:
    decoder, vae = (load_recipe(NANO / f"{name}.yaml").model_dump() for name in ("decoder", "kl_vae"))
    different = {key for key in decoder if decoder[key] != vae[key]}
    # The decoder starts from the encoder's detail decoder; the VAE has more steps in its place.
    assert different == {"run", "autoencoder", "init_decoder", "loss_encoder", "losses", "train"}
    assert {key for key in vae["losses"] if vae["losses"][key] != decoder["losses"][key]} == {"kl"}
    assert {key for key in vae["train"] if vae["train"][key] != decoder["train"][key]} == {"steps"}
    assert vae["loss_encoder"] == decoder["autoencoder"]["encoder"]


def test_the_vae_fits_its_generator_and_has_its_stated_size() -> None:
    recipe, generator, rae = (load_recipe(NANO / f"{name}.yaml") for name in ("kl_vae", "generator_vae", "encoder"))
    assert isinstance(recipe, Stage1.Config) and isinstance(generator, Stage2.Config)
    assert generator.latent_space == recipe.run / "autoencoder"
    with torch.device("meta"):
        vae = AUTOENCODERS.build(recipe.autoencoder)
    assert vae.shape == (64, 4, 4) and vae.output_size == recipe.data.image_size
    assert vae.shape[1] == rae.image_size // rae.patch_size, "as many tokens as the nano RAE"
    assert sum(p.numel() for p in vae.parameters()) == 1_738_064
