"""Gram loss: distance of second moments of features, which see texture and forget where it is.

In: feature maps of two batches of pictures inside the same frozen network (``LPIPS.taps``, or ``EncoderFeatures.taps``
where no VGG weights are at hand). Out: a scalar. Scale-RAE trains its decoder with a weight of 100 on it (appendix A)
without stating its normalisation; here it is that of Johnson et al. (arXiv 1603.08155, equations 3 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gram_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Squared Frobenius distance of the Gram matrices, summed over the maps, averaged over the batch.

    Args:
        a: maps ``[B,C,h,w]``, or tokens ``[B,N,D]``.
        b: the same maps of the other pictures.

    Returns:
        Scalar, float32 or better.
    """
    distances = [(gram(x) - gram(y)).square().sum(dim=(1, 2)).mean() for x, y in zip(a, b, strict=True)]
    return torch.stack(distances).sum()


def gram(features: Tensor) -> Tensor:
    """``G = F F^T / (C h w)`` of each sample, ``[B,C,C]``; ``F`` is ``[C, h w]``, of tokens ``[D, N]``.

    In float32 even under autocast: the distance is a small difference of large moments.
    """
    flat = features.flatten(2) if features.ndim == 4 else features.transpose(1, 2)
    flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
    with torch.autocast(flat.device.type, enabled=False):
        return flat @ flat.transpose(1, 2) / flat[0].numel()
