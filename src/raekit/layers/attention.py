"""Full self-attention with a fused qkv projection, optional QK-norm and optional axial rotary positions.

In: tokens ``[B, N, D]`` and, if positions are rotary, the ``(cos, sin)`` tables of
:func:`raekit.layers.embeddings.rope_2d`. Out: tokens ``[B, N, D]``. The softmax runs in PyTorch's fused kernel.
RAE paper, appendix D (LightningDiT).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.errors import UserError
from raekit.layers.feedforward import RMSNorm

Rope = tuple[Tensor, Tensor]
"""Rotary tables ``(cos, sin)``, each ``[N, head_dim]``, float32."""

QKNorm = Literal["rms", "layer"]


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Args:
        width: token width ``D``.
        heads: number of heads; must divide ``width``.
        qk_norm: normalise queries and keys over each head before the rotation; ``None`` for off.
        bias: whether the qkv and output projections carry a bias.

    Raises:
        UserError: ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: QKNorm | None = None, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"heads: {heads} does not divide width {width}; choose a divisor")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.q_norm = _head_norm(qk_norm, width // heads)
        self.k_norm = _head_norm(qk_norm, width // heads)
        self.proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, rope: Rope | None = None, mask: Tensor | None = None) -> Tensor:
        """Attend over the ``N`` tokens of ``x`` ``[B, N, D]``.

        Args:
            x: tokens.
            rope: rotates queries and keys.
            mask: ``[B, N]`` bool, true for the tokens that are attended to; None for all.
        """
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        seen = None if mask is None else mask[:, None, None]
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=seen)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate adjacent channel pairs: ``(a, b) -> (a cos - b sin, b cos + a sin)``.

    Args:
        x: queries or keys ``[..., N, d]``, ``d`` even.
        cos: ``[N, d]``, each angle repeated on the two channels of its pair.
        sin: as ``cos``.

    Returns:
        ``[..., N, d]`` in the dtype of ``x``; the rotation itself runs in float32 or better.
    """
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    pairs = exact.view(*x.shape[:-1], x.shape[-1] // 2, 2)
    c, s = cos[..., ::2].to(pairs.dtype), sin[..., ::2].to(pairs.dtype)
    if torch.compiler.is_compiling():
        # The compiler fuses real arithmetic but not complex numbers; in eager mode one complex product is 3x faster.
        a, b = pairs.unbind(-1)
        turned = torch.stack((a * c - b * s, b * c + a * s), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(c, s))
    return turned.flatten(-2).to(x.dtype)


def _head_norm(kind: QKNorm | None, head_dim: int) -> nn.Module:
    """The norm of queries or keys; the layer form keeps PyTorch's eps of 1e-5, as published."""
    if kind is None:
        return nn.Identity()
    return RMSNorm(head_dim) if kind == "rms" else nn.LayerNorm(head_dim)
