"""DiT-DH: a deep narrow trunk and a shallow wide head, which makes a width above the latent's affordable.

    z_t -> trunk (``base.py``) -> s
    z_t -> patch -> [head block x head_depth, modulated token by token by s] -> final -> output

In: noised latent, time, condition. Out: prediction of the latent's shape. The trunk's output is the condition of the
head, token by token; only the head needs to be wider than the latent's tokens. RAE section 5 (released as
``DiTwDDTHead``); the Scale-RAE form leaves out the second addition of the time (``has_time_in_head: false``).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raekit.backbones.base import Backbone, BackboneConfig, Trunk, rope_module, stack
from raekit.backbones.block import FinalLayer
from raekit.backbones.sizes import DIT_DH, WideShape, describe
from raekit.errors import UserError
from raekit.layers.embeddings import PatchEmbed


class DiTDH(Backbone):
    """Diffusion transformer with a wide head (RAE's DiT-DH).

    Args:
        config: size and form.
        latent_shape: ``(C, h, w)``.
        cond_width: width ``Z`` of the condition; equal to ``width`` unless ``has_time_in_head`` is off.

    Raises:
        UserError: ``has_time_in_head`` is on and ``cond_width`` differs from the trunk's width.
    """

    class Config(BackboneConfig):
        """Size and form of a DiT-DH; a field set beside ``size`` overrides that part of the preset."""

        name: Literal["dit_dh"] = "dit_dh"
        size: Literal["nano", "S", "B", "L", "XL", "0.5B", "2.4B", "3.1B"] = "XL"
        """Preset that fills the next six fields (`raekit list backbones`)."""
        width: int | None = Field(None, gt=0)
        """Token width of the trunk."""
        depth: int | None = Field(None, gt=0)
        """Blocks of the trunk."""
        heads: int | None = Field(None, gt=0)
        """Attention heads of the trunk; its width over them must be a multiple of 4."""
        head_width: int | None = Field(None, gt=0)
        """Token width of the head; keep it above the latent's token width (RAE, theorem 1)."""
        head_depth: int | None = Field(None, gt=0)
        """Blocks of the head."""
        head_heads: int | None = Field(None, gt=0)
        """Attention heads of the head."""
        extra_silu: bool = True
        """Pass the trunk's condition, and the trunk's output, through a SiLU ahead of those in the modulations."""
        has_time_in_head: bool = True
        """Add the time embedding to the trunk's output as well (RAE does, Scale-RAE does not)."""

        @property
        def shape(self) -> WideShape:
            """The preset with the overrides applied."""
            stated = {field: value for field in WideShape._fields if (value := getattr(self, field)) is not None}
            return DIT_DH[self.size]._replace(**stated)

    config: Config

    def __init__(self, config: Config, latent_shape: tuple[int, int, int], cond_width: int) -> None:
        shape = config.shape
        super().__init__(config, latent_shape, cond_width, shape.trunk)
        if config.has_time_in_head and cond_width != self.width:
            raise UserError(
                f"condition width: {cond_width} differs from the trunk's width {self.width}, and the time embedding is "
                "added to both; make them equal or set has_time_in_head: false"
            )
        self.warn_if_narrow("head_width", shape.head_width)
        if self.early is not None:
            self.warn_if_narrow("width", self.width)
        self.to_head = nn.Identity() if shape.width == shape.head_width else nn.Linear(shape.width, shape.head_width)
        self.head_embed = PatchEmbed(latent_shape[0], shape.head_width, config.patch_size)
        self.head_rope = rope_module(config, shape.head_width // shape.head_heads, self.grid)
        self.head_blocks = stack(config, shape.head, cond_width=shape.head_width)
        self.final = FinalLayer(config.norm, shape.head_width, shape.head_width, self.token_width)
        self.initialise()

    @classmethod
    def variants(cls) -> list[tuple[str, str]]:
        """Every size with its exact number of parameters: what `raekit list backbones` prints."""
        return [(size, describe(cls, size)) for size in DIT_DH]

    def initialise(self) -> None:
        """Initial weights and tables: PyTorch's default for linear layers, as published for this model."""
        self.set_initial_values(is_xavier=False)

    def predict(self, z_t: Tensor, trunk: Trunk) -> Tensor:
        """Prediction ``[B, C, h, w]`` by the head, which the trunk's tokens modulate."""
        s = trunk.tokens + trunk.time[:, None] if self.config.has_time_in_head else trunk.tokens
        return self.head(z_t, self.silu_first(s))

    def head(self, z_t: Tensor, s: Tensor) -> Tensor:
        """Prediction ``[B, C, h, w]`` of the noised latent, each token modulated by its ``s`` ``[B, N, D]``."""
        modulation = F.silu(self.to_head(s))
        rope = self.head_rope() if self.head_rope is not None else None
        x = self.head_embed(z_t)
        for block in self.head_blocks:
            x = block(x, modulation, rope)
        return self.to_latent(self.final(x, modulation))
