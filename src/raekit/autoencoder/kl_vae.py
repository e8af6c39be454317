"""A small convolutional VAE that stage 1 trains here: the nano family's twin of FLUX's and SDXL's.

In: image ``[B,3,H,W]`` in [0,1]. Out: latent ``[B,64,4,4]`` (64 px) and back: 8 px to a cell of 16 channels, 2 x 2
cells to a token, the proportions of FLUX's VAE. Encoder and decoder learn together, from the same pictures and losses
as an RAE's decoder and from the KL divergence of the posterior from N(0, 1) (Kingma and Welling 2014; Rombach et al.
2022), so that two generators can differ by the latent space and by nothing else (Scale-RAE, section 4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raekit.autoencoder import artefact
from raekit.autoencoder.base import NoiseSource, Trainable
from raekit.autoencoder.latent import LatentStatistics
from raekit.autoencoder.variational import Posterior, Variational, VariationalConfig, stored_statistics
from raekit.checkpoint import load_strict
from raekit.config import validate
from raekit.errors import UserError

GROUP_WIDTH = 4
"""Channels that share one mean and variance in a norm."""
LOG_VAR_RANGE = (-30.0, 20.0)
"""Bounds of the posterior's log variance, as published VAEs have them."""


class KLVAE(Variational, Trainable):
    """Small convolutional KL-VAE, trained by stage 1.

    Args:
        config: what it is made of.
        statistics: of the posterior's means; identity until :meth:`fit_statistics` otherwise.
    """

    class Config(VariationalConfig):
        """A KL-VAE as a recipe states it."""

        name: Literal["kl_vae"] = "kl_vae"
        input_size: int = Field(64, gt=0)
        """Side, pixels, to which images are resized; also the side of decoded images."""
        latent_channels: int = Field(16, gt=0)
        """Channels of a cell."""
        stem_size: int = Field(4, gt=0)
        """Side of the blocks of pixels that enter and leave as one position: convolutions at full size cost most and
        say least."""
        widths: tuple[int, ...] = Field((64, 128), min_length=1)
        """Channels of the levels, finest first, multiples of 4; each level after the first halves the sides, so that a
        cell is ``stem_size`` x 2 pixels wide with two of them."""
        depth: int = Field(2, gt=0)
        """Residual blocks a level, in the encoder and in the decoder."""
        statistics: Literal["per_channel", "per_position", "none"] = "per_channel"
        """Form of the latent normalisation, fitted after training."""

        @property
        def cell(self) -> int:
            """Side of a cell, pixels."""
            return self.stem_size << (len(self.widths) - 1)

    def __init__(self, config: Config, *, statistics: LatentStatistics | None = None) -> None:
        if any(width % GROUP_WIDTH for width in config.widths):
            raise UserError(f"autoencoder.widths: {list(config.widths)} must be multiples of {GROUP_WIDTH}")
        super().__init__(config, config.latent_channels, config.cell, statistics)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def last_layer(self) -> Tensor:
        """Of the decoder."""
        return self.decoder.head.weight

    def posterior(self, image: Tensor) -> Posterior:
        """Of images ``[B,3,S,S]`` in [0,1], with gradients."""
        mean, log_var = self.encoder(2 * image - 1).float().chunk(2, dim=1)
        return Posterior(mean, log_var.clamp(*LOG_VAR_RANGE))

    def draw(self, cells: Tensor) -> Tensor:
        """Images ``[B,3,S,S]``, nominally in [0,1], of latents ``[B,c,S/f,S/f]`` before the statistics."""
        pixels: Tensor = self.decoder(cells)
        return (pixels + 1) / 2

    def trained(self) -> dict[str, nn.Module]:
        """Encoder and decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def precompute(self, image: Tensor) -> Tensor:
        """The image itself, ``[B,3,S,S]``: gradients reach all the rest."""
        return self.resize(image)

    def redraw(self, start: Tensor, noise: NoiseSource | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The picture of a draw of the posterior (without noise: of its mean), and ``kl``, the divergence from N(0, 1)
        in nats a number of the latent."""
        posterior = self.posterior(start)
        cells = posterior.mean if noise is None else posterior.sample(noise)
        return self.draw(cells), {"kl": posterior.divergence()}

    def weights(self) -> dict[str, Tensor]:
        """Of encoder and decoder."""
        modules = self.trained().items()
        return {f"{name}.{key}": value for name, module in modules for key, value in module.state_dict().items()}

    @classmethod
    def load(cls, directory: Path, device: str | torch.device = "cpu") -> KLVAE:
        """The latent space of an artefact.

        Raises:
            UserError: a damaged artefact, or one of another release.
        """
        identity, tensors = artefact.read(Path(directory))
        name = f"autoencoder {str(directory)!r}"
        model = cls(validate(cls.Config, identity["config"], name), statistics=stored_statistics(identity, tensors))
        load_strict(model, tensors, name)
        model.checksum = identity["checksum"]
        return model.to(device)


class Encoder(nn.Module):
    """Images ``[B,3,S,S]`` in [-1,1] to mean and log variance ``[B,2c,S/f,S/f]``."""

    def __init__(self, config: KLVAE.Config) -> None:
        super().__init__()
        widths, self.stem_size = config.widths, config.stem_size
        self.stem = conv(3 * self.stem_size**2, widths[0])
        levels: list[nn.Module] = []
        for width, coarser in zip(widths, (*widths[1:], None), strict=True):
            levels += [ResidualBlock(width) for _ in range(config.depth)]
            if coarser:
                levels.append(nn.Conv2d(width, coarser, 3, stride=2, padding=1))
        self.levels = nn.Sequential(*levels)
        self.norm = norm(widths[-1])
        self.head = conv(widths[-1], 2 * config.latent_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Images ``[B,3,S,S]`` in [-1,1] to moments ``[B,2c,S/f,S/f]``."""
        x = self.levels(self.stem(F.pixel_unshuffle(image, self.stem_size)))
        moments: Tensor = self.head(F.silu(self.norm(x)))
        return moments


class Decoder(nn.Module):
    """Latents ``[B,c,S/f,S/f]`` to images ``[B,3,S,S]``, nominally in [-1,1]."""

    def __init__(self, config: KLVAE.Config) -> None:
        super().__init__()
        widths, self.stem_size = config.widths[::-1], config.stem_size
        self.stem = conv(config.latent_channels, widths[0])
        levels: list[nn.Module] = []
        for width, finer in zip(widths, (*widths[1:], None), strict=True):
            levels += [ResidualBlock(width) for _ in range(config.depth)]
            if finer:
                levels += [conv(width, finer), nn.Upsample(scale_factor=2)]
        self.levels = nn.Sequential(*levels)
        self.norm = norm(widths[-1])
        self.head = conv(widths[-1], 3 * self.stem_size**2)

    def forward(self, cells: Tensor) -> Tensor:
        """Latents ``[B,c,S/f,S/f]`` to images ``[B,3,S,S]``, not clamped."""
        x = self.levels(self.stem(cells))
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.stem_size)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each behind a norm and SiLU, inside a residual: ``[B,W,h,w]`` to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(width), conv(width, width)
        self.norm2, self.conv2 = norm(width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,W,h,w]`` to the same shape."""
        inner = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(inner)))
        return out


def conv(channels: int, out_channels: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(channels, out_channels, 3, padding=1)


def norm(width: int) -> nn.GroupNorm:
    """A norm over groups of :data:`GROUP_WIDTH` channels."""
    return nn.GroupNorm(width // GROUP_WIDTH, width)
