"""Feed-forward layers, norms, and the modulation by which a condition reaches a block.

In: tokens ``[B, N, D]``. Out: tokens ``[B, N, D]``. RAE paper, appendix D: RMSNorm, SwiGLU, adaLN with shift and scale.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["rms", "layer"]


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axis.

    The statistic is taken in float32 and cast back to the dtype of ``x`` before the weight is applied, in this order,
    so that half-precision results equal those of the published models.

    Args:
        width: size of the last axis.
        eps: added to the mean square.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.reset()

    def reset(self) -> None:
        """Initial values: ones."""
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width] -> [..., width]``."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.rms_norm(exact, self.weight.shape, eps=self.eps).to(x.dtype) * self.weight


def token_norm(kind: Norm, width: int) -> nn.Module:
    """The norm ahead of attention and feed-forward: RMSNorm with a weight, or LayerNorm without affine (eps 1e-6)."""
    return RMSNorm(width) if kind == "rms" else nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def swiglu_width(width: int, ratio: float = 4.0) -> int:
    """Hidden width of a SwiGLU layer, ``floor(2/3 * floor(ratio * width))``, which keeps the size of a plain MLP."""
    return int(2 / 3 * int(ratio * width))


class SwiGLU(nn.Module):
    """``w3(silu(a) * b)`` with ``(a, b) = w12(x)``.

    Args:
        width: token width ``D``.
        hidden: width of ``a`` and ``b``; see :func:`swiglu_width`.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D] -> [..., D]``."""
        a, b = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(a) * b)
        return out


class GELUFeedForward(nn.Module):
    """``fc2(gelu(fc1(x)))``.

    Args:
        width: token width ``D``.
        hidden: inner width.
        approximate: ``"none"`` for the exact (erf) GELU of the decoder, ``"tanh"`` for that of the backbones.
    """

    def __init__(self, width: int, hidden: int, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D] -> [..., D]``."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))
        return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift``; ``shift`` and ``scale`` are ``[B, 1, D]`` (a sample) or ``[B, N, D]`` (a token)."""
    return torch.addcmul(shift, x, 1 + scale)
