"""How close a reconstruction is to its original.

In: two batches of images ``[B,3,H,W]`` in [0,1]. Out: one number per image, so that a mean over a data set does not
depend on the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(image: Tensor, target: Tensor, floor: float = 1e-10) -> Tensor:
    """Peak signal-to-noise ratio ``-10 log10(mse)`` in dB, ``[B]``; the floor gives equal images 100 dB.

    The image is clamped to [0,1] first, as it is when it is shown (RAE, evaluation).
    """
    error = (image.float().clamp(0, 1) - target.float()).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error.clamp(min=floor))
