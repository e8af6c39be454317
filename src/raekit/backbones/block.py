"""The block every backbone stacks, and the layer that ends one: adaLN-Zero transformers.

In: tokens ``[B, N, D]`` and a condition, ``[B, 1, Z]`` for the whole image or ``[B, N, Z]`` token by token. Out:
tokens. The condition acts only as shift, scale and gate of normalised tokens. RAE appendix D, Scale-RAE section 3.1.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from raekit import config as recipes
from raekit.layers.attention import Attention, Rope
from raekit.layers.feedforward import GELUFeedForward, Norm, SwiGLU, modulate, swiglu_width, token_norm


class BlockConfig(recipes.Config):
    """Settings of a block."""

    mlp: Literal["swiglu", "gelu"] = "swiglu"
    """Feed-forward layer; ``gelu`` is the tanh approximation."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Hidden width of the feed-forward layer over the width; SwiGLU takes two thirds of it."""
    norm: Literal["rms", "layer"] = "rms"
    """Norm ahead of attention and feed-forward: RMSNorm with a weight, or LayerNorm without affine."""
    qk_norm: Literal["rms", "layer"] | None = None
    """Norm of queries and keys; off in all published models, the usual cure where bf16 training diverges."""


class Block(nn.Module):
    """Attention, then feed-forward, each normalised, modulated and gated by the condition.

    Args:
        config: settings.
        width: token width ``D``.
        heads: attention heads.
        cond_width: condition width ``Z``.
    """

    def __init__(self, config: BlockConfig, width: int, heads: int, cond_width: int) -> None:
        super().__init__()
        self.norm1 = token_norm(config.norm, width)
        self.attention = Attention(width, heads, qk_norm=config.qk_norm)
        self.norm2 = token_norm(config.norm, width)
        self.mlp: nn.Module
        if config.mlp == "swiglu":
            self.mlp = SwiGLU(width, swiglu_width(width, config.mlp_ratio))
        else:
            self.mlp = GELUFeedForward(width, int(width * config.mlp_ratio), approximate="tanh")
        self.modulation = nn.Linear(cond_width, 6 * width)

    def reset(self) -> None:
        """Initial values: a modulation of zero, so that the block passes its input on."""
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, cond: Tensor, rope: Rope | None = None, mask: Tensor | None = None) -> Tensor:
        """One block.

        Args:
            x: tokens ``[B, N, D]``.
            cond: ``silu(condition)``, ``[B, 1 or N, Z]``; the caller takes the SiLU once for all blocks.
            rope: rotary tables of the token grid.
            mask: ``[B, N]`` bool, true for the tokens that are attended to; None for all.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(cond).chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attention(modulate(self.norm1(x), shift1, scale1), rope, mask))
        return torch.addcmul(x, gate2, self.mlp(modulate(self.norm2(x), shift2, scale2)))


class FinalLayer(nn.Module):
    """Norm, modulation by the condition, linear map to the values of each token.

    Args:
        norm: kind of norm.
        width: token width ``D``.
        cond_width: condition width ``Z``.
        token_width: latent values of a token, ``p * p * C``.
    """

    def __init__(self, norm: Norm, width: int, cond_width: int, token_width: int) -> None:
        super().__init__()
        self.norm = token_norm(norm, width)
        self.linear = nn.Linear(width, token_width)
        self.modulation = nn.Linear(cond_width, 2 * width)

    def reset(self) -> None:
        """Initial values: all zero, so that the output is exactly 0."""
        for layer in (self.modulation, self.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """``[B, N, D]`` and ``silu(condition)`` ``[B, 1 or N, Z]`` to ``[B, N, p * p * C]``."""
        shift, scale = self.modulation(cond).chunk(2, dim=-1)
        out: Tensor = self.linear(modulate(self.norm(x), shift, scale))
        return out
