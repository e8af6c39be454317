"""DiffAug: differentiable changes of the pictures a discriminator sees, so that it cannot learn them by heart.

In: images ``[B,3,H,W]`` in [0,1] and uniform random numbers for each sample. Out: shifted, recoloured, partly covered
images, differentiable with respect to the image; they may leave [0,1]. The published policy is StyleGAN-T's (RAE,
appendix C.2), in which "empty" is mid-grey. There one coin decides for a whole batch whether an operation acts; here
each sample has its own, so that a picture does not depend on its neighbours (equal numbers give the published result).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raekit import config

GREY = 0.5


class DiffAug:
    """The augmentation; it has no state.

    Args:
        config: which operations, and how often.

    Attributes:
        num_draws: uniform numbers that a sample needs, in this order: does translation, colour, cutout act; shift down,
            shift right; brightness, saturation, contrast; row and column of the cut-out.
    """

    num_draws: ClassVar[int] = 10

    class Config(config.Config):
        """Which operations act, and how often."""

        prob: float = Field(1.0, ge=0, le=1)
        """Chance of each operation, for each sample."""
        translation: float = Field(0.125, ge=0, le=1)
        """Largest shift, as a share of the side; 0 = none."""
        has_colour: bool = True
        """Change brightness by up to a quarter of the range, saturation up to twofold, contrast by 0.5 to 1.5."""
        cutout: float = Field(0.0, ge=0, le=1)
        """Side of the square that is covered, as a share of the image's; 0 = none (as in RAE's training)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, image: Tensor, draws: Tensor, blur: float = 0.0) -> Tensor:
        """Augmented images ``[B,3,H,W]``, float32 or better.

        Args:
            image: ``[B,3,H,W]``.
            draws: ``[B, num_draws]`` uniform in [0,1).
            blur: 1 to 0, how far StyleGAN-T's warm-up still blurs: a standard deviation of ``blur * sqrt(H / 2)``.
        """
        x = image.to(torch.promote_types(image.dtype, torch.float32)) - GREY
        acts = draws[:, :3, None, None, None].to(x.device) < self.config.prob
        values = draws[:, 3:].to(x)
        if blur > 0:
            x = _blur(x, blur * math.sqrt(0.5 * x.shape[-2]))
        if self.config.translation:
            x = torch.where(acts[:, 0], translate(x, values[:, 0:2], self.config.translation), x)
        if self.config.has_colour:
            x = torch.where(acts[:, 1], recolour(x, values[:, 2:5]), x)
        if self.config.cutout:
            x = torch.where(acts[:, 2], cut_out(x, values[:, 5:7], self.config.cutout), x)
        return x + GREY


def translate(x: Tensor, draws: Tensor, ratio: float) -> Tensor:
    """Shift each sample by whole pixels, up to ``round(ratio * side)`` each way, and fill with zeros.

    Args:
        x: ``[B,C,H,W]``.
        draws: ``[B,2]`` uniform: 0 moves the picture down (right) as far as it goes, 1 up (left).
        ratio: largest shift as a share of the side.
    """
    for axis, draw in zip((2, 3), draws.unbind(1), strict=True):
        side = x.shape[axis]
        most = round(ratio * side)
        shift = (draw * (2 * most + 1)).floor().long() - most
        source = torch.arange(side, device=x.device) + shift[:, None]
        shape = [len(x), 1, 1, 1]
        shape[axis] = side
        inside = ((source >= 0) & (source < side)).view(shape)
        x = x.gather(axis, source.clamp(0, side - 1).view(shape).expand_as(x)) * inside
    return x


def recolour(x: Tensor, draws: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast of each sample.

    Args:
        x: ``[B,C,H,W]`` around zero, one unit from black to white.
        draws: ``[B,3]`` uniform; 0.5 everywhere changes nothing.
    """
    brightness, saturation, contrast = draws[:, :, None, None, None].unbind(1)
    x = x + (brightness - 0.5) / 2
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def cut_out(x: Tensor, draws: Tensor, ratio: float) -> Tensor:
    """Zero a square of ``round(ratio * side)``, wherever its centre falls; at the edge only its part inside.

    Args:
        x: ``[B,C,H,W]``.
        draws: ``[B,2]`` uniform: row and column of the centre.
        ratio: side of the square as a share of the image's.
    """
    covered = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for axis, draw in zip((2, 3), draws.unbind(1), strict=True):
        side = x.shape[axis]
        size = round(ratio * side)
        first = (draw * (side + 1 - size % 2)).floor() - size // 2
        # As published, a part outside lies on the outermost row, so that at least one row is always covered.
        low, high = first.clamp(0, side - 1), (first + size - 1).clamp(0, side - 1)
        place = torch.arange(side, device=x.device)
        shape = [len(x), 1, 1, 1]
        shape[axis] = side
        covered = covered & ((place >= low[:, None]) & (place <= high[:, None])).view(shape)
    return x * ~covered


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Separable blur with the kernel ``2^-(k / sigma)^2``, cut at three sigma, mirrored at the border."""
    radius = math.floor(3 * sigma)
    if radius == 0:
        return x
    k = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp2(-((k / sigma) ** 2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    padded = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(padded, kernel, groups=x.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=x.shape[1])
