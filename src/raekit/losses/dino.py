"""DINO: the frozen vision transformer that the published discriminators look through.

In: image ``[B,3,H,W]`` in [0,1], resized to 224 px. Out: tokens ``[B,N,D]`` after chosen blocks, differentiable with
respect to the image. RAE judges with ViT-S/8 (appendix C.2), Scale-RAE with ViT-S/16, because S/8 would not converge
on pictures from the web (appendix A). Module names are those of the published files, so these load as they are. The
GELU is the tanh approximation, as in the published discriminator; DINO itself was trained with the exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.checkpoint import load_strict
from raekit.encoders.base import IMAGENET_MEAN, IMAGENET_STD
from raekit.layers.attention import Attention
from raekit.layers.feedforward import GELUFeedForward
from raekit.losses.taps import count_from_one
from raekit.losses.weights import frozen_weights

INPUT_SIZE = 224
"""Side of the image the network sees, pixels: its position table fits no other."""
NORM_EPS = 1e-6
UNUSED = ("norm.weight", "norm.bias")
"""In every published file, but no tap lies behind the final norm."""


class Shape(NamedTuple):
    """Size of a DINO."""

    width: int
    depth: int
    heads: int
    patch_size: int


PRESETS = {
    "dino_s8": Shape(384, 12, 6, 8),
    "dino_s16": Shape(384, 12, 6, 16),
    "dino_b16": Shape(768, 12, 12, 16),
}
HUB_IDS = {
    "dino_s8": "timm/vit_small_patch8_224.dino",
    "dino_s16": "timm/vit_small_patch16_224.dino",
    "dino_b16": "timm/vit_base_patch16_224.dino",
}


class DINO(nn.Module):
    """A pre-LN vision transformer with a class token; frozen.

    Args:
        shape: see ``PRESETS``.

    Attributes:
        width: ``D``, channels of a token.
        depth: number of blocks.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width, self.depth, heads, patch_size = shape
        tokens = (INPUT_SIZE // patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, self.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, self.width, patch_size, patch_size)})
        self.blocks = nn.ModuleList(Block(self.width, heads) for _ in range(self.depth))
        self.register_buffer("image_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def load(cls, preset: str, weights: str | Path | None = None) -> DINO:
        """A published DINO.

        Args:
            preset: a name in ``PRESETS``.
            weights: file, directory or hub id (see :func:`frozen_weights`); None = the hub's.

        Raises:
            UserError: no such weights, or those of another network.
        """
        source = weights or HUB_IDS[preset]
        found = frozen_weights(source, "discriminator.weights")
        network = cls(PRESETS[preset])
        load_strict(network, {key: value for key, value in found.items() if key not in UNUSED}, str(source))
        return network

    def taps(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Patch tokens ``[B,N,D]`` after blocks ``layers``, without the class token; see :class:`Tapped`."""
        wanted = count_from_one(layers, self.depth)
        x = self.embed(image)
        found = {}
        for number, block in enumerate(self.blocks[: max(wanted)], start=1):
            x = block(x)
            if number in wanted:
                found[number] = x[:, 1:]
        return [found[number] for number in wanted]

    def embed(self, image: Tensor) -> Tensor:
        """Resized, standardised, cut into patches, with class token and positions: ``[B,1+N,D]``."""
        if image.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            image = F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        patches = self.patch_embed["proj"]((image - self.image_mean) / self.image_std).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token.to(patches.dtype).expand(len(image), -1, -1), patches), dim=1)
        return tokens + self.pos_embed


class Block(nn.Module):
    """``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``.

    Args:
        width: token width ``D``.
        heads: number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = GELUFeedForward(width, 4 * width, approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[B,N,D]`` to tokens of the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
