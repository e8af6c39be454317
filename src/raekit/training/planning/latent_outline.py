"""The latent space of a stage-2 recipe, as far as a generator cares, whether it is there yet or not.

In: the recipe's ``latent_space`` directory and its ``autoencoder`` block. Out: :class:`LatentOutline`. With it nothing
is loaded: shapes are known, the encoder is built on the meta device. Without it the directory is read.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raekit.autoencoder import AUTOENCODERS
from raekit.autoencoder.artefact import read_identity
from raekit.autoencoder.base import Autoencoder, Trainable, load_autoencoder
from raekit.autoencoder.rae import RAE
from raekit.autoencoder.vae import VAE
from raekit.errors import UserError
from raekit.training.planning.pieces import with_pieces
from raekit.training.planning.work import BF16, FP32, Work, measure

if TYPE_CHECKING:
    from raekit.training.stage2 import Stage2

PUBLISHED_VAES: dict[str, dict[str, Any]] = {
    "flux": {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
    "sdxl": {"latent_channels": 4},
}
"""What differs between them (FLUX.1 and SDXL, ``vae/config.json``)."""
VAE_WIDTHS = (128, 256, 512, 512)
"""Channels by resolution, of either; each but the first halves the sides."""


@dataclass(frozen=True)
class LatentOutline:
    """A latent space.

    Attributes:
        kind: in words.
        shape: ``(C, h, w)``.
        image_size: pixels that the encoder sees.
        encoder: its frozen encoder; None where it cannot be had (a VAE without diffusers).
        weight_bytes: of a weight of the encoder.
    """

    kind: str
    shape: tuple[int, int, int]
    image_size: int
    encoder: nn.Module | None
    weight_bytes: int

    @property
    def dim(self) -> int:
        """Numbers in a latent."""
        return math.prod(self.shape)

    def work(self) -> Work:
        """Of encoding one image."""
        return Work(0) if self.encoder is None else encoding_work(self.encoder, self.image_size)


def encoding_work(encoder: nn.Module, image_size: int) -> Work:
    """The work of a frozen encoder on one image of so many pixels a side."""
    work = measure(encoder, lambda m, size: m(torch.empty(size, 3, image_size, image_size)), False)
    return with_pieces(work, encoder)


def latent_of(config: Stage2.Config) -> LatentOutline:
    """The latent space of a recipe.

    Raises:
        UserError: the directory is not there and nothing is said about it, or it holds another latent space.
    """
    if config.autoencoder is None:
        check_is_there(config.latent_space, ", or state what it will be in `autoencoder`")
        return _of(load_autoencoder(config.latent_space))
    latent = outline(config.autoencoder)
    if config.latent_space.is_dir():
        stored = read_identity(config.latent_space)
        found = stored.get("latent", {}).get("shape")
        check_shape(config, tuple(found) if found else latent.shape)
    return latent


def check_is_there(latent_space: Path, otherwise: str = "") -> None:
    """Raise a :class:`UserError` if there is no such directory; ``otherwise`` is what helps besides making it."""
    if not latent_space.is_dir():
        raise UserError(
            f"latent_space: no directory {str(latent_space)!r}; make it with stage 1 (or `raekit convert`){otherwise}"
        )


def check_shape(config: Stage2.Config, found: tuple[int, ...]) -> None:
    """Raise a :class:`UserError` if the latent space in the directory is not of the shape that the recipe states."""
    if config.autoencoder is None:
        return
    stated = outline(config.autoencoder).shape
    if tuple(found) != stated:
        raise UserError(
            f"latent_space: {str(config.latent_space)!r} holds latents {_times(found)}, the recipe's autoencoder makes "
            f"{_times(stated)}; give the latent space it names, or change `autoencoder`"
        )


def outline(config: Any) -> LatentOutline:
    """What an ``autoencoder`` block comes to, without weights.

    Raises:
        UserError: a VAE whose latent is not known without its files.
    """
    name = config.model_dump()["name"]
    kind = AUTOENCODERS[name]
    if issubclass(kind, Trainable):
        encoder = getattr(config, "encoder", None)
        # An outline forgets the precision, since nothing is computed with it.
        is_rounded = getattr(encoder, "precision", None) == "bf16"
        return replace(_of(kind.outline(config)), weight_bytes=BF16 if is_rounded else FP32)
    if not isinstance(config, VAE.Config) or config.model not in PUBLISHED_VAES:
        raise UserError(f"autoencoder: the latent of {name!r} is known from its files alone; leave `autoencoder` out")
    settings = PUBLISHED_VAES[config.model]
    side = config.input_size // (2 ** (len(VAE_WIDTHS) - 1) * config.patch_size)
    shape = (settings["latent_channels"] * config.patch_size**2, side, side)
    return LatentOutline(
        f"VAE of {config.model}",
        shape,
        config.input_size,
        _vae_encoder(settings),
        BF16 if config.precision == "bf16" else FP32,
    )


def _of(model: Autoencoder) -> LatentOutline:
    """Of a latent space at hand."""
    if isinstance(model, RAE):
        encoder = model.encoder
        kind = f"RAE on {encoder.config.path or encoder.config.hub_id}"
        weight_bytes = BF16 if encoder.config.precision == "bf16" else FP32
        return LatentOutline(kind, model.shape, encoder.input_size, encoder, weight_bytes)
    network = getattr(model, "network", model)
    return LatentOutline(
        str(model.config.name), model.shape, model.output_size, getattr(network, "encoder", None), FP32
    )


def _vae_encoder(settings: dict[str, Any]) -> nn.Module | None:
    """On the meta device, where diffusers is installed."""
    if importlib.util.find_spec("diffusers") is None:
        return None
    with torch.device("meta"):
        encoder: nn.Module = vae_network(settings).encoder.requires_grad_(False)
    return encoder


def vae_network(settings: dict[str, Any]) -> Any:
    """An ``AutoencoderKL`` of a row of :data:`PUBLISHED_VAES`, with fresh weights; needs diffusers."""
    from diffusers import AutoencoderKL

    levels = len(VAE_WIDTHS)
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_WIDTHS,
        layers_per_block=2,
        **settings,
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
