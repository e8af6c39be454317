"""What all backbones share: their contract, the trunk of blocks, how a condition is summed, how weights start.

    z_t -> patch -> + position -> [context | tokens] -> [block x depth, modulated by silu(time + cond)] -> tokens

In: ``z_t`` ``[B, C, h, w]``, ``t`` ``[B]``, ``Cond``. Out: ``[B, C, h, w]``. A backbone is built for one latent shape
and one condition width, both known from the latent space and the conditioner, so neither stands in a recipe.

**Early head.** With ``early_block`` a second output layer reads the tokens after that block. RAEv2 (arXiv 2605.18324)
aligns block 8 with the clean representation; in a representation's own latent space that is the latent itself, so here
the early head is asked for the very target of the last layer. It teaches the early blocks, and as a worse prediction
from the same pass it is what internal guidance pushes away from.

**Context.** Words in context stand before the tokens and go through the same blocks; attention runs over both, a mask
hides padding. Rotary and tabled positions belong to the tokens alone: a language model's states know their own order.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raekit.backbones.block import Block, BlockConfig, FinalLayer
from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.layers.attention import Rope
from raekit.layers.embeddings import GaussianFourierTime, PatchEmbed, Rope2d, sincos_2d, unpatchify
from raekit.layers.feedforward import RMSNorm

Pair = tuple[Tensor, Tensor]
"""Output of the last layer and of the early head, each ``[B, C, h, w]``."""


class BackboneConfig(BlockConfig):
    """Settings that every backbone has: those of its blocks, and how tokens are cut and placed."""

    patch_size: int = Field(1, ge=1)
    """Latent cells a token covers along each side."""
    has_rope: bool = True
    """Rotary 2-D positions in attention."""
    has_position_table: bool = True
    """Fixed sine-cosine table added to the embedded tokens."""
    extra_silu: bool = False
    """Pass the summed condition through a SiLU ahead of the one in each modulation, as Scale-RAE does."""
    early_block: int | None = Field(None, ge=1)
    """Block of the trunk, from 1, after which an early head predicts the target too (RAEv2: 8); None = no such head."""


class Shape(NamedTuple):
    """Of a stack of blocks."""

    width: int
    depth: int
    heads: int


class Trunk(NamedTuple):
    """What the trunk hands on.

    Attributes:
        tokens: ``[B, N, D]`` after the last block.
        early: ``[B, N, D]`` after ``early_block``; None without an early head.
        modulation: ``silu(condition)``, ``[B, 1 or N, Z]``.
        time: the time embedding ``[B, Z]``.
    """

    tokens: Tensor
    early: Tensor | None
    modulation: Tensor
    time: Tensor


class Backbone(nn.Module, ABC):
    """Base of the backbones: the trunk, and the early head if there is one.

    Args:
        config: settings.
        latent_shape: ``(C, h, w)`` of the latent space.
        cond_width: width ``Z`` of the condition; also that of the time embedding.
        trunk: its width ``D``, depth and heads.

    Attributes:
        grid: tokens along ``h`` and ``w``.
        num_tokens: their product.

    Raises:
        UserError: the patch does not divide the latent grid, or there is no block ``early_block``.
    """

    position: Tensor | None

    def __init__(
        self, config: BackboneConfig, latent_shape: tuple[int, int, int], cond_width: int, trunk: Shape
    ) -> None:
        super().__init__()
        channels, height, width = self.latent_shape = latent_shape
        patch_size = self.patch_size = config.patch_size
        if height % patch_size or width % patch_size:
            raise UserError(
                f"patch_size: {patch_size} does not divide the latent grid {height} x {width}; use a divisor"
            )
        if config.early_block is not None and config.early_block > trunk.depth:
            raise UserError(
                f"early_block: {config.early_block} is not one of the trunk's {trunk.depth} blocks; name an earlier one"
            )
        self.config = config
        self.cond_width, self.width = cond_width, trunk.width
        self.token_width = channels * patch_size**2
        self.grid = (height // patch_size, width // patch_size)
        self.num_tokens = math.prod(self.grid)
        self.time_embed = GaussianFourierTime(cond_width)
        self.embed = PatchEmbed(channels, trunk.width, patch_size)
        self.register_buffer("position", sincos_2d(trunk.width, self.grid) if config.has_position_table else None)
        self.rope = rope_module(config, trunk.width // trunk.heads, self.grid)
        self.blocks = stack(config, trunk, cond_width)
        self.early: FinalLayer | None = None
        if config.early_block is not None:
            self.early = FinalLayer(config.norm, trunk.width, cond_width, self.token_width)

    @abstractmethod
    def predict(self, z_t: Tensor, trunk: Trunk) -> Tensor:
        """Prediction ``[B, C, h, w]`` from the trunk's tokens (and, where there is a head, the noised latent)."""

    @abstractmethod
    def initialise(self) -> None:
        """Set every weight and table to its initial value; the last thing that a constructor does."""

    def forward(self, z_t: Tensor, t: Tensor, cond: Cond, is_pair: bool = False) -> Tensor | Pair:
        """Prediction for the noised latent.

        Args:
            z_t: ``[B, C, h, w]``.
            t: ``[B]`` in [0, 1].
            cond: one condition per sample.
            is_pair: also return what the early head says; see :meth:`with_early`. It is a switch of this method, and
                not a method apart, so that what wraps modules and acts in ``forward`` (sharding, hooks) sees it.

        Returns:
            ``[B, C, h, w]``, or two of them.

        Raises:
            UserError: the latent or the condition is not of the shape this model was built for.
        """
        trunk = self.trunk(z_t, t, cond)
        output = self.predict(z_t, trunk)
        if not is_pair:
            return output
        if self.early is None or trunk.early is None:
            raise UserError(NO_EARLY_HEAD)
        return output, self.to_latent(self.early(trunk.early, trunk.modulation))

    def with_early(self, z_t: Tensor, t: Tensor, cond: Cond) -> Pair:
        """``(output, early output)`` of one forward pass; arguments and errors as for a call.

        Raises:
            UserError: there is no early head.
        """
        pair: Pair = self(z_t, t, cond, is_pair=True)
        return pair

    def trunk(self, z_t: Tensor, t: Tensor, cond: Cond) -> Trunk:
        """Everything up to the last block of the trunk."""
        self.check_latent(z_t)
        time = self.time_embed(t)
        modulation = F.silu(self.silu_first(self.condition(time, cond)))
        x = self.embed(z_t)
        if self.position is not None:
            x = x + self.position
        rope, mask, early = self.rope() if self.rope is not None else None, None, None
        if cond.context is not None:
            x = torch.cat((cond.context.to(x.dtype), x), dim=1)
            rope, mask = self._beside_context(rope, cond.context.shape[1], cond.mask)
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, modulation, rope, mask)
            if number == self.config.early_block:
                early = x[:, -self.num_tokens :]
        return Trunk(x[:, -self.num_tokens :], early, modulation, time)

    def silu_first(self, x: Tensor) -> Tensor:
        """The extra SiLU of those published models that have one."""
        return F.silu(x) if self.config.extra_silu else x

    def to_latent(self, tokens: Tensor) -> Tensor:
        """Values of each token ``[B, N, p * p * C]`` to ``[B, C, h, w]``."""
        return unpatchify(tokens, self.grid, self.patch_size)

    def condition(self, time: Tensor, cond: Cond) -> Tensor:
        """Time embedding ``[B, Z]`` plus condition: ``[B, 1, Z]``, or ``[B, N, Z]`` when each token has its own.

        Raises:
            UserError: a field of the condition has the wrong shape, or words come with a vector per token.
        """
        summed = time[:, None]
        if cond.vector is not None:
            self._check_cond("vector", cond.vector, (len(time), self.cond_width))
            summed = summed + cond.vector[:, None]
        if cond.tokens is not None:
            self._check_cond("tokens", cond.tokens, (len(time), self.num_tokens, self.cond_width))
            summed = summed + cond.tokens
        if cond.context is not None:
            if cond.tokens is not None:
                raise UserError(
                    "condition: it has words in context and a vector per token; a backbone reads one of them"
                )
            self._check_cond("context", cond.context, (len(time), cond.context.shape[1], self.width))
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
        eigenvalues of the covariance of ``eps - z``; on one image they are all 1. At ``d = n`` that is no bound, but
        there is no room beside the noise: Scale-RAE (appendix B) keeps the width strictly above.
        """
        n = self.token_width
        if width <= n:
            bound = (
                "which leaves no room beside the noise (Scale-RAE, appendix B)"
                if width == n
                else f"predicting velocity, the loss per dimension of one image stays at or above (n - d) / n = "
                f"{(n - width) / n:.3f} (RAE, theorem 1)"
            )
            warnings.warn(
                f"{field} {width} is not above the latent token width {n}: {bound}; set {field} above {n}", stacklevel=3
            )

    def _check_cond(self, field: str, value: Tensor, expected: tuple[int, ...]) -> None:
        if tuple(value.shape) != expected:
            raise UserError(
                f"condition: {field} is {list(value.shape)}, this model needs {list(expected)}; "
                "set the conditioner's width and number of queries to match"
            )

    def _beside_context(self, rope: Rope | None, length: int, mask: Tensor | None) -> tuple[Rope | None, Tensor | None]:
        """Rotary tables and attention mask of ``length`` words, which are not turned, and the tokens after them."""
        if rope is not None:
            cos, sin = rope
            rope = F.pad(cos, (0, 0, length, 0), value=1.0), F.pad(sin, (0, 0, length, 0))
        return rope, mask if mask is None else F.pad(mask, (0, self.num_tokens), value=True)


NO_EARLY_HEAD = (
    "early_block: this model has no early head, which internal guidance needs; train one with backbone.early_block, or "
    "use another guidance"
)


def rope_module(config: BackboneConfig, head_dim: int, grid: tuple[int, int]) -> Rope2d | None:
    """The rotary tables for heads of ``head_dim`` channels, or None if the settings have none."""
    return Rope2d(head_dim, grid) if config.has_rope else None


def stack(config: BackboneConfig, shape: Shape, cond_width: int) -> nn.ModuleList:
    """The blocks of one shape."""
    return nn.ModuleList(Block(config, shape.width, shape.heads, cond_width) for _ in range(shape.depth))
