"""A discriminator that looks at pixels: small convolutions, all trained, one logit a patch (arXiv 1611.07004).

In: image ``[B,3,H,W]`` in [0,1]. Out: logits ``[B,L]``, high for real pictures, each of a window of about 40 px. For
latent spaces whose own encoder is blind to fine detail, and for machines without DINO's weights. As on the frozen
features nothing mixes samples and the spectral norm depends on the weights alone, so data parallel stays exact.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from raekit import config
from raekit.losses.taps import Tapped

SLOPE = 0.2
"""Of the leaky ReLUs."""


class PatchDiscriminator(nn.Module):
    """Strided convolutions on pixels.

    Args:
        config: size.
    """

    class Config(config.Config):
        """Size of the convolutions."""

        name: Literal["patches"] = "patches"
        width: int = Field(64, gt=0)
        """Channels of the first convolution; each further one has twice as many, four times at most."""
        depth: int = Field(3, gt=0)
        """Convolutions that halve the sides: a logit sees 22, 46, 94 px with 2, 3, 4 of them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = [3, *(config.width * min(2**level, 4) for level in range(config.depth))]
        layers: list[nn.Module] = []
        for channels, out_channels in zip(widths, widths[1:], strict=False):
            layers += [spectral_norm(nn.Conv2d(channels, out_channels, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 4, padding=1)))

    @classmethod
    def build(cls, config: Config, encoder: Tapped | None = None) -> PatchDiscriminator:
        """From the settings alone; the encoder is not looked through."""
        del encoder
        return cls(config)

    @classmethod
    def outline(cls, config: Config, encoder: Tapped | None = None) -> PatchDiscriminator:
        """As :meth:`build`, on the meta device: to be counted."""
        del encoder
        with torch.device("meta"):
            return cls(config)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[B,L]``; in train mode the spectral norms move one iteration."""
        logits: Tensor = self.layers(image * 2 - 1)
        return logits.flatten(1)
