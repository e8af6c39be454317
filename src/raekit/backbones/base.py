"""What all backbones share: their contract, how a condition is summed, how weights start.

In: ``z_t`` ``[B, C, h, w]``, ``t`` ``[B]``, ``Cond``. Out: ``[B, C, h, w]``. A backbone is built for one latent shape
and one condition width, both known from the latent space and the conditioner, so neither stands in a recipe.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod

from pydantic import Field
from torch import Tensor, nn

from raekit.backbones.block import Block, BlockConfig, FinalLayer
from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.layers.embeddings import GaussianFourierTime, PatchEmbed, Rope2d, sincos_2d
from raekit.layers.feedforward import RMSNorm


class BackboneConfig(BlockConfig):
    """Settings that every backbone has: those of its blocks, and how tokens are cut and placed."""

    patch_size: int = Field(1, ge=1)
    """Latent cells a token covers along each side."""
    has_rope: bool = True
    """Rotary 2-D positions in attention."""
    has_position_table: bool = True
    """Fixed sine-cosine table added to the embedded tokens."""


class Backbone(nn.Module, ABC):
    """Base of the backbones.

    Args:
        latent_shape: ``(C, h, w)`` of the latent space.
        cond_width: width ``Z`` of the condition; also that of the time embedding.
        patch_size: latent cells a token covers along each side; must divide ``h`` and ``w``.

    Attributes:
        grid: tokens along ``h`` and ``w``.
        num_tokens: their product.

    Raises:
        UserError: the patch does not divide the latent grid.
    """

    def __init__(self, latent_shape: tuple[int, int, int], cond_width: int, patch_size: int) -> None:
        super().__init__()
        channels, height, width = self.latent_shape = latent_shape
        if height % patch_size or width % patch_size:
            raise UserError(
                f"patch_size: {patch_size} does not divide the latent grid {height} x {width}; use a divisor"
            )
        self.cond_width, self.patch_size = cond_width, patch_size
        self.token_width = channels * patch_size**2
        self.grid = (height // patch_size, width // patch_size)
        self.num_tokens = math.prod(self.grid)
        self.time_embed = GaussianFourierTime(cond_width)

    @abstractmethod
    def forward(self, z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Prediction ``[B, C, h, w]`` for the noised latent ``z_t`` at times ``t`` ``[B]`` in [0, 1]."""

    def condition(self, time: Tensor, cond: Cond) -> Tensor:
        """Time embedding ``[B, Z]`` plus condition: ``[B, 1, Z]``, or ``[B, N, Z]`` when each token has its own.

        Raises:
            UserError: the condition has fields this backbone does not read, or the wrong shape.
        """
        if cond.context is not None:
            raise UserError("condition: this backbone reads one vector per image or per token, not text in context")
        summed = time[:, None]
        if cond.vector is not None:
            self._check_cond("vector", cond.vector, (len(time), self.cond_width))
            summed = summed + cond.vector[:, None]
        if cond.tokens is not None:
            self._check_cond("tokens", cond.tokens, (len(time), self.num_tokens, self.cond_width))
            summed = summed + cond.tokens
        return summed

    def check_latent(self, z_t: Tensor) -> None:
        """Raise UserError unless ``z_t`` is of the latent shape this model was built for."""
        if tuple(z_t.shape[1:]) != tuple(self.latent_shape):
            got, built = (" x ".join(map(str, shape)) for shape in (z_t.shape[1:], self.latent_shape))
            raise UserError(
                f"latent: got {got}, this model was built for {built}; use the latent space it was trained in"
            )

    def set_initial_values(self, is_xavier: bool) -> None:
        """Set every weight and table.

        Linear layers start Xavier-uniform with zero bias, or with PyTorch's default. What turns a condition into a
        modulation, and the last linear map, start at zero: each block is the identity and the output exactly 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
                if is_xavier:
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, (PatchEmbed, GaussianFourierTime, Rope2d, RMSNorm, Block, FinalLayer)):
                module.reset()
        position = self.get_buffer("position") if "position" in self._buffers else None
        if position is not None:
            position.copy_(sincos_2d(position.shape[-1], self.grid))

    def warn_if_narrow(self, field: str, width: int) -> None:
        """Warn when ``width`` is not above the token width ``n``: the noise that a model predicts must pass through it.

        RAE, theorem 1: the loss of a model whose tokens have width ``d < n`` cannot fall below the ``n - d`` smallest
        eigenvalues of the covariance of ``eps - z``; on one image they are all 1.
        """
        n = self.token_width
        if width <= n:
            warnings.warn(
                f"{field} {width} is not above the latent token width {n}: predicting velocity, the loss per dimension "
                f"of one image stays at or above (n - d) / n = {(n - width) / n:.3f} (RAE, theorem 1); "
                f"set {field} above {n}",
                stacklevel=3,
            )

    def _check_cond(self, field: str, value: Tensor, expected: tuple[int, ...]) -> None:
        if tuple(value.shape) != expected:
            raise UserError(
                f"condition: {field} is {list(value.shape)}, this model needs {list(expected)}; "
                "set the conditioner's width and number of queries to match"
            )


def position_buffer(config: BackboneConfig, width: int, grid: tuple[int, int]) -> Tensor | None:
    """The position table ``[N, width]``, or None if the settings have none."""
    return sincos_2d(width, grid) if config.has_position_table else None


def rope_module(config: BackboneConfig, head_dim: int, grid: tuple[int, int]) -> Rope2d | None:
    """The rotary tables for heads of ``head_dim`` channels, or None if the settings have none."""
    return Rope2d(head_dim, grid) if config.has_rope else None


def stack(config: BackboneConfig, width: int, depth: int, heads: int, cond_width: int) -> nn.ModuleList:
    """``depth`` blocks of one width."""
    return nn.ModuleList(Block(config, width, heads, cond_width) for _ in range(depth))
