"""The projector of a Scale-RAE checkpoint, and the encoder that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_autoencoders
import tiny_generator
from raekit.autoencoder.base import Autoencoder
from raekit.encoders.projector import Projector
from raekit.errors import UserError
from raekit.interop.ledger import Ledger
from raekit.interop.scale_rae_sight import Sight, take_sight

WIDTH = 8


def projector(kind: str, channels: int) -> dict[str, Tensor]:
    """By the published names."""
    places = {"linear": [""], "mlp2x_gelu": [".0", ".2"], "mlp3x_gelu": [".0", ".2", ".4"]}[kind]
    shapes = [(WIDTH, channels if number == 0 else WIDTH) for number in range(len(places))]
    weights = {f"model.mm_projector{place}.weight": torch.randn(s) for place, s in zip(places, shapes, strict=True)}
    return weights | {f"model.mm_projector{place}.bias": torch.randn(WIDTH) for place in places}


def take(tensors: dict[str, Tensor], latent_space: Autoencoder, **settings: Any) -> Sight | None:
    ledger = Ledger(tensors, "weights")
    found = take_sight(ledger, settings, latent_space)
    assert ledger.loaded == tensors.keys()
    return found


@pytest.fixture
def rae(tmp_path: Path) -> Autoencoder:
    return tiny_generator.latent_space(tmp_path / "rae")


@pytest.mark.parametrize("kind", ["linear", "mlp2x_gelu", "mlp3x_gelu"])
def test_every_kind(kind: str, rae: Autoencoder) -> None:
    tensors = projector(kind, 32)
    sight = take(tensors, rae, mm_projector_type=kind)
    assert sight is not None and sight.settings == {"projector": kind, "vision_shape": (16, 32)}
    module = Projector(kind, 32, WIDTH)  # type: ignore[arg-type]
    module.load_state_dict({key.removeprefix("projector."): value for key, value in sight.state.items()})
    assert module(torch.randn(1, 16, 32)).shape == (1, 16, WIDTH)


def test_a_checkpoint_may_have_none(rae: Autoencoder) -> None:
    assert take({}, rae) is None


@pytest.mark.parametrize(("channels", "name"), [(1152, "siglip2"), (1024, "webssl")])
def test_beside_a_vae_it_is_the_released_encoder(channels: int, name: str, tmp_path: Path) -> None:
    sight = take(projector("mlp2x_gelu", channels), tiny_autoencoders.build("kl_vae", tmp_path))
    assert sight is not None and sight.settings["vision_shape"] == (256, channels)
    assert sight.settings["tower"].name == name and sight.note.endswith(f"256 tokens x {channels}, through {name}")


def test_what_does_not_fit(rae: Autoencoder, tmp_path: Path) -> None:
    vae = tiny_autoencoders.build("kl_vae", tmp_path)
    whole = projector("mlp2x_gelu", 32)
    lacking = {key: value for key, value in whole.items() if not key.endswith(".2.bias")}
    refused: list[tuple[dict[str, Tensor], Autoencoder, dict[str, Any], str]] = [
        (lacking, rae, {}, r"1 missing \(model.mm_projector.2.bias\)"),
        (projector("mlp2x_gelu", 40), rae, {}, "sees tokens of 40 channels, its latent space has 32"),
        (whole, vae, {}, "sees tokens of 32 channels; the released encoders have 1152, 1024"),
        (whole, rae, {"mm_projector_type": "resampler"}, "mm_projector_type is 'resampler'; only linear"),
    ]
    for tensors, space, settings, sentence in refused:
        with pytest.raises(UserError, match=sentence):
            take_sight(Ledger(tensors, "weights"), settings, space)
