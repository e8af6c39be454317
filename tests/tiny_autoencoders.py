"""Latent spaces of every registered kind, a few thousand random weights each.

In: a registered name and a directory. Out: a latent space whose frozen parts, if it has any, are saved below that
directory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_encoders
from raekit.autoencoder import AUTOENCODERS
from raekit.autoencoder.base import Autoencoder

VAE: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""Of an ``AutoencoderKL``: FLUX's, but for the sizes."""


def saved_vae(directory: Path, seed: int = 0, **options: Any) -> Path:
    """A VAE in the diffusers layout; skips the test where diffusers is not installed."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(seed)
    diffusers.AutoencoderKL(**VAE | options).save_pretrained(directory)
    return directory


def rae(directory: Path) -> dict[str, Any]:
    decoder = {"size": "nano", "width": 16, "depth": 1, "heads": 2, "mlp_width": 24, "patch_size": 5}
    encoder = tiny_encoders.save("nano", directory / "encoder")
    return {"encoder": {"name": "nano", "path": str(encoder)}, "decoder": decoder, "statistics": "per_channel"}


def vae(directory: Path) -> dict[str, Any]:
    return {"model": str(saved_vae(directory / "vae")), "input_size": 16}


def kl_vae(directory: Path) -> dict[str, Any]:
    del directory
    return {"input_size": 16, "latent_channels": 3, "stem_size": 2, "widths": [8, 12], "depth": 1}


SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {"rae": rae, "vae": vae, "kl_vae": kl_vae}


def build(name: str, directory: Path, **options: Any) -> Autoencoder:
    """A latent space of that kind, with settings of its own in place of the usual ones."""
    settings = SETTINGS[name](directory) | options
    torch.manual_seed(0)
    built: Autoencoder = AUTOENCODERS.build(AUTOENCODERS[name].Config.model_validate(settings))
    return built.eval()
