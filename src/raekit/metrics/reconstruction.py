"""How close a reconstruction is to its original, and how sharp a picture is.

In: two batches of images ``[B,3,H,W]`` in [0,1]. Out: one number per image, so that a mean over a data set does not
depend on the batch size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, WINDOW_SIGMA = 11, 1.5
"""Side and standard deviation of the Gaussian window of SSIM, pixels (Wang et al. 2004)."""

C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for pictures in [0,1] (Wang et al. 2004)."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""


def psnr(image: Tensor, target: Tensor, floor: float = 1e-10) -> Tensor:
    """Peak signal-to-noise ratio ``-10 log10(mse)`` in dB, ``[B]``; the floor gives equal images 100 dB.

    The image is clamped to [0,1] first, as it is when it is shown (RAE, evaluation).
    """
    error = (image.float().clamp(0, 1) - target.float()).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error.clamp(min=floor))


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) ``[B]``, in float64; 1 for equal images.

    The mean over pixels and channels, pictures being reflected at their borders, which is what torchmetrics'
    ``structural_similarity_index_measure`` computes. The image is clamped to [0,1] first.

    Raises:
        ValueError: pictures too small to be reflected under the window, below 6 px.
    """
    if min(image.shape[-2:]) <= WINDOW // 2:
        raise ValueError(f"image: {image.shape[-2]} x {image.shape[-1]} px; ssim needs at least {WINDOW // 2 + 1}")
    # Variances are differences of nearly equal numbers: in float32 they would lose half of their digits.
    a, b = image.double().clamp(0, 1), target.double()
    mean_a, mean_b, square_a, square_b, product = _windowed(torch.stack([a, b, a * a, b * b, a * b]))
    variance_a, variance_b = square_a - mean_a.square(), square_b - mean_b.square()
    covariance = product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    similarity: Tensor = (luminance * structure).flatten(1).mean(dim=1)
    return similarity


def gradient_energy(image: Tensor) -> Tensor:
    """Mean squared difference between neighbouring pixels' luma, across plus down, ``[B]``.

    What blurring removes: the ratio of two sets' means says how sharp one is beside the other. It rises with noise and
    checkerboards as well, so it is a warning and not a score.
    """
    weights = torch.tensor(LUMINANCE, dtype=torch.float64, device=image.device).view(3, 1, 1)
    luma = (image.double().clamp(0, 1) * weights).sum(dim=1)
    across, down = luma.diff(dim=2).square(), luma.diff(dim=1).square()
    return across.flatten(1).mean(dim=1) + down.flatten(1).mean(dim=1)


def _windowed(maps: Tensor) -> Tensor:
    """Gaussian-weighted means of maps ``[K,B,C,H,W]`` around every pixel."""
    offsets = torch.arange(WINDOW, dtype=maps.dtype, device=maps.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * WINDOW_SIGMA**2))
    weights = weights / weights.sum()
    padded = F.pad(maps.flatten(0, 2).unsqueeze(1), [WINDOW // 2] * 4, mode="reflect")
    means = F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return means.view_as(maps)
