"""Stage 1: its terms, its noise, and the artefact it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_recipes
from raekit.autoencoder.rae import RAE
from raekit.training.draws import Draws
from raekit.training.stage1 import Stage1


def build(folder: Path, **changes: object) -> Stage1:
    return Stage1(tiny_recipes.resolve({**tiny_recipes.stage1(folder), **changes}), torch.device("cpu"))


def test_the_loss_is_the_weighted_sum_of_its_terms(tmp_path: Path) -> None:
    stage = build(tmp_path)
    terms = stage.loss(next(stage.batches(0, 8)), Draws(0, range(8)))
    assert set(terms) == {"loss", "l1", "gradient", "encoder"}
    torch.testing.assert_close(terms["loss"], terms["l1"] + 0.5 * terms["gradient"] + 0.1 * terms["encoder"])


def test_only_the_decoder_learns(tmp_path: Path) -> None:
    stage = build(tmp_path)
    stage.loss(next(stage.batches(0, 8)), Draws(0, range(8)))["loss"].backward()
    assert all(p.grad is None for p in stage.rae.encoder.parameters())
    assert all(name.startswith("decoder.") for name in stage.parameters())


def test_noise_is_there_and_follows_the_draws(tmp_path: Path) -> None:
    stage = build(tmp_path)
    batch = next(stage.batches(0, 8))
    one, same, other = (stage.loss(batch, Draws(seed, range(8)))["l1"].item() for seed in (0, 0, 1))
    assert one == same != other


def test_a_decoder_can_start_from_given_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    first = build(tmp_path)
    save_file(first.rae.decoder.state_dict(), tmp_path / "decoder.safetensors")
    second = build(tmp_path, init_decoder=str(tmp_path / "decoder.safetensors"), seed=5)
    assert torch.equal(first.rae.decoder.last_layer, second.rae.decoder.last_layer)


@pytest.mark.parametrize("form", ["per_position", "per_channel", "none"])
def test_the_artefact_is_a_latent_space_of_that_form(tmp_path: Path, form: str) -> None:
    values = tiny_recipes.stage1(tmp_path)
    stage = build(tmp_path, autoencoder={**values["autoencoder"], "statistics": form})
    rae = RAE.load(stage.export(tmp_path / "out"))
    image = next(stage._held_out_images(8))
    latent = rae.encode(image)
    if form == "per_channel":
        torch.testing.assert_close(latent.mean(dim=(0, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)
    elif form == "per_position":
        torch.testing.assert_close(latent.mean(dim=0), torch.zeros(32, 4, 4), atol=1e-4, rtol=0)
    assert rae.checksum and rae.shape == (32, 4, 4)
