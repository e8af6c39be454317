"""The pixel decoder: a plain pre-LN vision transformer from tokens back to an image.

In: raw (un-normalised) encoder tokens ``[B,N,C]`` in raster order. Out: image ``[B,3,S,S]`` in the *encoder's* pixel
scale; :class:`raekit.autoencoder.rae.RAE` brings it to [0,1]. The layout is the one of ViT-MAE's decoder, with a
learnable class token that is dropped at the end (RAE, section 3.1 and appendix C.2).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from raekit import config
from raekit.autoencoder.latent import resize_tokens, to_grid
from raekit.errors import UserError
from raekit.layers.attention import Attention
from raekit.layers.embeddings import sincos_2d
from raekit.layers.feedforward import GELUFeedForward

LAYER_NORM_EPS = 1e-12
"""Of every LayerNorm of the published decoders."""


class Preset(NamedTuple):
    """Shape of a decoder size."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    patch_size: int


PRESETS = {
    "nano": Preset(256, 6, 8, 1024, 16),
    "S": Preset(384, 12, 6, 1536, 16),
    "B": Preset(768, 12, 12, 3072, 16),
    "L": Preset(1024, 24, 16, 4096, 16),
    "XL": Preset(1152, 28, 16, 4096, 16),
    "SO": Preset(1152, 28, 16, 4096, 14),
}
"""B, L, XL: RAE, table 15 (the MLP of XL is 4096 wide, not 4 x 1152). SO: the decoder of Scale-RAE, XL with output
patch 14. S: ours, a ViT-S for one small GPU. nano: ours, for a CPU."""


class ViTDecoder(nn.Module):
    """Tokens ``[B,N,C]`` to image ``[B,3,grid*patch_size,grid*patch_size]``.

    Args:
        config: size and output patch.
        latent_channels: ``C``, the encoder's width.
        grid: tokens per side, ``N = grid^2``.
    """

    position: Tensor

    class Config(config.Config):
        """Size of the decoder; a field set beside ``size`` overrides that part of the preset."""

        size: Literal["nano", "S", "B", "L", "XL", "SO"] = "XL"
        """Preset that fills the fields below (see ``PRESETS``)."""
        width: int | None = Field(default=None, gt=0)
        """Hidden width; a multiple of ``4`` and of ``heads``."""
        depth: int | None = Field(default=None, gt=0)
        """Number of transformer layers."""
        heads: int | None = Field(default=None, gt=0)
        """Attention heads."""
        mlp_width: int | None = Field(default=None, gt=0)
        """Hidden width of each MLP."""
        patch_size: int | None = Field(default=None, gt=0)
        """Output pixels per token and side; need not equal the encoder's patch (224 px in, 256 px out with 16)."""
        resize_grid: bool = False
        """Accept another token grid by resizing it bilinearly to the decoder's own, as the published code does;
        otherwise that is an error."""

        @property
        def shape(self) -> Preset:
            """The preset with the overrides applied."""
            preset = PRESETS[self.size]
            return Preset(*(getattr(self, name) or default for name, default in preset._asdict().items()))

    def __init__(self, config: Config, latent_channels: int, grid: int) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        width, depth, heads, mlp_width, self.patch_size = config.shape
        if width % 4 or width % heads:
            raise UserError(f"decoder.width: {width} must be a multiple of 4 and of decoder.heads ({heads})")
        self.embed = nn.Linear(latent_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("position", sincos_2d(width, grid, cls_token=True).unsqueeze(0))
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, mlp_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(width, 3 * self.patch_size**2)

    @property
    def last_layer(self) -> Tensor:
        """Weight whose gradient norms balance the losses of stage 1 (RAE, appendix C.2)."""
        return self.head.weight

    @property
    def output_size(self) -> int:
        """Side of the decoded image, pixels."""
        return self.grid * self.patch_size

    def forward(self, tokens: Tensor) -> Tensor:
        """Image ``[B,3,S,S]`` in the encoder's pixel scale (about zero mean and unit variance), unbounded."""
        return unpatchify(self.patches(tokens), self.patch_size)

    def patches(self, tokens: Tensor) -> Tensor:
        """One flat patch ``[B,N,3*patch_size^2]`` a token; see :func:`unpatchify` for its order.

        Raises:
            UserError: the tokens are not of this decoder's grid, and ``resize_grid`` is off.
        """
        patches: Tensor = self.head(self.hidden(tokens))
        return patches

    def hidden(self, tokens: Tensor) -> Tensor:
        """What the last layer reads: ``[B,N,W]`` after the final norm, class token dropped."""
        x = self.embed(tokens)
        if x.shape[1] != self.grid**2:
            if not self.config.resize_grid:
                raise UserError(
                    f"decoder: got {x.shape[1]} tokens, its grid is {self.grid} x {self.grid}; "
                    "encode at the encoder's input_size or set decoder.resize_grid"
                )
            x = resize_tokens(x, self.grid)
        x = torch.cat([self.cls_token.to(x.dtype).expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        hidden: Tensor = self.norm(x)
        return hidden[:, 1:]


class DecoderBlock(nn.Module):
    """Attention then a GELU MLP, each behind a LayerNorm and inside a residual."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = GELUFeedForward(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,N,W]`` to ``[B,N,W]``."""
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Flat patches ``[B,N,3 p^2]``, ordered (row, column, channel), channel fastest, to an image ``[B,3,S,S]``."""
    batch, num_tokens, _ = patches.shape
    pixels = patches.view(batch, num_tokens, patch_size**2, 3).transpose(2, 3).flatten(2)
    return to_grid(pixels, patch_size)
