"""Loading a latent space of whatever kind, and what the contract gives to those that have no chance in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny_autoencoders
from raekit.autoencoder import artefact
from raekit.autoencoder.base import load_autoencoder
from raekit.errors import UserError
from raekit.training.draws import Draws


@pytest.mark.parametrize("name", ["rae", "kl_vae"])
def test_the_artefact_says_of_which_kind_it_is(name: str, tmp_path: Path) -> None:
    built = tiny_autoencoders.build(name, tmp_path / "parts").train()
    built.save(tmp_path / "a")
    loaded = load_autoencoder(str(tmp_path / "a"))
    assert type(loaded) is type(built) and loaded.config.name == name
    assert not any(module.training for module in loaded.modules())


@pytest.mark.parametrize("name", ["rae", "kl_vae"])
def test_what_is_no_image_is_refused(name: str, tmp_path: Path) -> None:
    built = tiny_autoencoders.build(name, tmp_path)
    with pytest.raises(UserError, match=r"image: uint8; give floats in \[0, 1\]"):
        built.encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"image: a tensor \[3, 32, 32\]; give \[B, 3, H, W\]"):
        built.encode(torch.zeros(3, 32, 32))


def test_a_kind_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    tiny_autoencoders.build("kl_vae", tmp_path).save(tmp_path / "a")
    identity, tensors = artefact.read(tmp_path / "a")
    del identity["checksum"]
    identity["config"]["name"] = "kl_vea"
    artefact.write(tmp_path / "a", identity, tensors)
    with pytest.raises(UserError, match=f"{tmp_path / 'a'}.*unknown name 'kl_vea'; did you mean 'kl_vae'.*update"):
        load_autoencoder(tmp_path / "a")


def test_a_config_without_a_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format": artefact.FORMAT, "version": artefact.VERSION}))
    with pytest.raises(UserError, match=f"{tmp_path}.*names no kind"):
        load_autoencoder(tmp_path)


def test_nothing_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / 'none'}.*no config.json"):
        load_autoencoder(tmp_path / "none")


def test_latent_spaces_without_chance_are_sampled_as_they_encode(tmp_path: Path) -> None:
    rae, image = tiny_autoencoders.build("rae", tmp_path), torch.rand(2, 3, 32, 32)
    assert not rae.is_sampled
    assert torch.equal(rae.encode_sample(image, Draws(0, [0, 1])), rae.encode(image))
