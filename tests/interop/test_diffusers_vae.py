"""A VAE in the diffusers layout becomes a latent space by ``convert``, and no more than its name is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_autoencoders
from raekit.autoencoder.base import load_autoencoder
from raekit.errors import UserError
from raekit.interop.convert import convert
from raekit.interop.format import ConvertConfig


def test_a_vae_becomes_a_latent_space(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    saved = tiny_autoencoders.saved_vae(tmp_path / "vae")
    rows = dict(convert(saved, tmp_path / "ours"))
    assert rows["from"].endswith("(diffusers_vae)") and rows["latent"] == "[16, 64, 64] of 256 px"
    vae = load_autoencoder(tmp_path / "ours")
    assert vae.checksum[:12] == rows["checksum"] and vae.config.model == str(saved)
    assert vae(torch.rand(1, 3, 256, 256)).shape == (1, 3, 256, 256)


def test_options_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    saved = tiny_autoencoders.saved_vae(tmp_path / "vae")
    with pytest.raises(UserError, match="--tau means nothing when reading diffusers_vae"):
        convert(saved, tmp_path / "ours", ConvertConfig(tau=0.1))
    assert not (tmp_path / "ours").exists()


def test_a_variational_latent_space_has_no_published_layout(tmp_path: Path) -> None:
    tiny_autoencoders.build("kl_vae", tmp_path).save(tmp_path / "a")
    with pytest.raises(UserError, match="is a kl_vae; only a rae has published layouts"):
        convert(tmp_path / "a", tmp_path / "out")
