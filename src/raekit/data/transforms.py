"""Pixels: composing, cropping, scaling and flipping on the CPU, and the one step from uint8 to float.

In: uint8 arrays ``[H, W, 3 or 4]`` and a seeded generator. Out: uint8 ``[size, size, 3]``; on the device, ``image``
float ``[B, 3, H, W]`` in [0, 1], the only pixel range of this library. The centre crop is ADM's (Dhariwal and Nichol
2021), which RAE and Scale-RAE use: halve with a box filter while possible, then bicubic, then cut.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from raekit.data.palette import Colour
from raekit.data.sample import Pixels
from raekit.errors import UserError

Crop = Literal["centre", "random", "zoomed", "stretch"]

CHANCE_CROPS = ("random", "zoomed")
"""Those that differ each time and may cut into what a picture shows."""

ZOOM = 1.5
"""Short side of a picture, in sides of the square that is cut from it (384 px for 256), when decoders are trained (RAE,
appendix C.2)."""


def to_float(image: Tensor) -> Tensor:
    """uint8 ``[..., 3, H, W]`` to float32 in [0, 1]."""
    return image.to(torch.float32) / 255


def check_image(image: Tensor) -> None:
    """That a tensor can be a batch of images; its values are not looked at, which would wait for a GPU.

    Raises:
        UserError: another shape than ``[B, 3, H, W]``, or whole numbers.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise UserError(f"image: a tensor {list(image.shape)}; give [B, 3, H, W] in [0, 1]")
    if not image.is_floating_point():
        raise UserError(
            f"image: {str(image.dtype).removeprefix('torch.')}; give floats in [0, 1], of uint8 image / 255"
        )


def to_uint8(image: Tensor) -> Tensor:
    """Float, clipped to [0, 1], to uint8 by rounding to nearest; the inverse of :func:`to_float`."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def to_uint8_truncated(image: Tensor) -> Tensor:
    """Float, clipped to [0, 1], to uint8 by cutting off the fraction, as the published evaluations do (RAE, code).

    Half a level darker on average than :func:`to_uint8`; for comparing with published numbers only.
    """
    return (image.clamp(0, 1) * 255).to(torch.uint8)


def compose(image: Pixels, colour: Colour) -> Pixels:
    """Lay ``[H, W, 4]`` on a plain background; ``[H, W, 3]`` is returned as it is."""
    if image.shape[2] == 3:
        return image
    alpha = image[..., 3:].astype(np.uint32)
    background = np.asarray(colour, np.uint32)
    mixed = image[..., :3] * alpha + background * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Bicubic, antialiased when shrinking, to ``[height, width, 3]``."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def centre_crop(image: Pixels, size: int) -> Pixels:
    """ADM's centre crop: the largest centred square, scaled to ``[size, size, 3]``."""
    scaled = _short_side_to(image, size)
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    return scaled[top : top + size, left : left + size]


def random_crop(image: Pixels, size: int, generator: np.random.Generator, smallest: float = 0.8) -> Pixels:
    """ADM's random crop: a square that covers between ``smallest`` and all of the short side, anywhere.

    Args:
        image: ``[H, W, 3]``.
        size: side of the result in pixels.
        generator: gives the scale and the place.
        smallest: least covered part of the short side, in (0, 1].
    """
    return _cut(_short_side_to(image, round(size / generator.uniform(smallest, 1.0))), size, generator)


def zoomed_crop(image: Pixels, size: int, generator: np.random.Generator) -> Pixels:
    """RAE's crop for decoders: two thirds of the short side, anywhere."""
    return _cut(_short_side_to(image, int(ZOOM * size)), size, generator)


def _cut(scaled: Pixels, size: int, generator: np.random.Generator) -> Pixels:
    """A square of a picture, anywhere."""
    top = int(generator.integers(scaled.shape[0] - size + 1))
    left = int(generator.integers(scaled.shape[1] - size + 1))
    return scaled[top : top + size, left : left + size]


def jitter(image: Tensor, normal: Tensor, amount: float) -> Tensor:
    """Shift and zoom each picture a little, on the device; what comes in at the edges repeats the border.

    Args:
        image: float ``[B, 3, H, W]``.
        normal: ``[B, 3]`` standard normal draws: along x, along y, zoom.
        amount: largest shift as a share of the side, and largest relative zoom, in [0, 1); 0 changes nothing.
    """
    if amount == 0:
        return image
    shift_x, shift_y, zoom = (amount * torch.tanh(normal)).to(image.dtype).unbind(dim=1)
    scale, none = 1 / (1 + zoom), torch.zeros_like(zoom)
    # The sampling grid spans [-1, 1], so that a whole side is 2.
    rows = [torch.stack([scale, none, 2 * shift_x], dim=1), torch.stack([none, scale, 2 * shift_y], dim=1)]
    with torch.autocast(image.device.type, enabled=False):  # a product of matrices, and bf16 has steps of a tenth pixel
        grid = F.affine_grid(torch.stack(rows, dim=1), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def to_square(image: Pixels, size: int, crop: Crop, generator: np.random.Generator) -> Pixels:
    """``[H, W, 3]`` to ``[size, size, 3]``: ``centre``, ``random``, ``zoomed``, or ``stretch`` (aspect ratio lost)."""
    if crop in CHANCE_CROPS:
        return (random_crop if crop == "random" else zoomed_crop)(image, size, generator)
    return centre_crop(image, size) if crop == "centre" else resize(image, size, size)


def mirror(image: Pixels) -> Pixels:
    """Left to right."""
    return image[:, ::-1]


def to_chw(image: Pixels) -> Pixels:
    """``[H, W, 3]`` to contiguous ``[3, H, W]``."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _short_side_to(image: Pixels, size: int) -> Pixels:
    """Scale so that the short side is ``size``: box-filter halvings first, which bicubic alone would alias past."""
    picture = Image.fromarray(image)
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)
