"""DiT-DH: a deep narrow trunk and a shallow wide head, which makes a width above the latent's affordable.

    z_t -> patch -> + position -> [trunk block x depth, modulated by silu(time + cond)] -> s
    z_t -> patch -> [head block x head_depth, modulated token by token by s] -> final -> output

In: noised latent, time, condition. Out: prediction of the latent's shape. The trunk's output is the condition of the
head, token by token; only the head needs to be wider than the latent's tokens. RAE section 5 (released as
``DiTwDDTHead``); the Scale-RAE form leaves out the second addition of the time (``has_time_in_head: false``).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raekit.backbones.base import Backbone, BackboneConfig, position_buffer, rope_module, stack
from raekit.backbones.block import FinalLayer
from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.layers.embeddings import PatchEmbed, unpatchify


class Preset(NamedTuple):
    """Shape of a size."""

    width: int
    depth: int
    heads: int
    head_width: int
    head_depth: int
    head_heads: int


PRESETS = {
    "nano": Preset(256, 6, 4, 512, 2, 8),
    "S": Preset(384, 12, 6, 2048, 2, 16),  # 196 M parameters; gFID-50k 6.07 after 80 epochs on DINOv2-B
    "B": Preset(768, 12, 12, 2048, 2, 16),  # 294 M; 3.38
    "L": Preset(1024, 24, 16, 2048, 2, 16),  # 622 M
    "XL": Preset(1152, 28, 16, 2048, 2, 16),  # 839 M; 2.16, after 800 epochs 1.51, with autoguidance 1.13
}
"""RAE, tables 8, 13 and 16. nano: ours, for a CPU."""


class DiTDH(Backbone):
    """Diffusion transformer with a wide head (RAE's DiT-DH).

    Args:
        config: size and form.
        latent_shape: ``(C, h, w)``.
        cond_width: width ``Z`` of the condition; equal to ``width`` unless ``has_time_in_head`` is off.

    Raises:
        UserError: ``has_time_in_head`` is on and ``cond_width`` differs from the trunk's width.
    """

    position: Tensor | None

    class Config(BackboneConfig):
        """Size and form of a DiT-DH; a field set beside ``size`` overrides that part of the preset."""

        name: Literal["dit_dh"] = "dit_dh"
        size: Literal["nano", "S", "B", "L", "XL"] = "XL"
        """Preset that fills the next six fields (see ``PRESETS``)."""
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
        def shape(self) -> Preset:
            """The preset with the overrides applied."""
            return PRESETS[self.size]._replace(**{f: v for f in Preset._fields if (v := getattr(self, f)) is not None})

    def __init__(self, config: Config, latent_shape: tuple[int, int, int], cond_width: int) -> None:
        super().__init__(latent_shape, cond_width, config.patch_size)
        self.config = config
        width, depth, heads, head_width, head_depth, head_heads = config.shape
        if config.has_time_in_head and cond_width != width:
            raise UserError(
                f"condition width: {cond_width} differs from the trunk's width {width}, and the time embedding is "
                "added to both; make them equal or set has_time_in_head: false"
            )
        self.warn_if_narrow("head_width", head_width)
        channels, patch_size = latent_shape[0], config.patch_size
        self.trunk_embed = PatchEmbed(channels, width, patch_size)
        self.register_buffer("position", position_buffer(config, width, self.grid))
        self.trunk_rope = rope_module(config, width // heads, self.grid)
        self.trunk_blocks = stack(config, width, depth, heads, cond_width)
        self.to_head = nn.Identity() if width == head_width else nn.Linear(width, head_width)
        self.head_embed = PatchEmbed(channels, head_width, patch_size)
        self.head_rope = rope_module(config, head_width // head_heads, self.grid)
        self.head_blocks = stack(config, head_width, head_depth, head_heads, head_width)
        self.final = FinalLayer(config.norm, head_width, head_width, self.token_width)
        self.initialise()

    def initialise(self) -> None:
        """Initial weights and tables: PyTorch's default for linear layers, as published for this model."""
        self.set_initial_values(is_xavier=False)

    def forward(self, z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Prediction ``[B, C, h, w]`` for ``z_t`` ``[B, C, h, w]`` at ``t`` ``[B]``.

        Raises:
            UserError: the latent or the condition is not of the shape this model was built for.
        """
        self.check_latent(z_t)
        return self.head(z_t, self.trunk(z_t, t, cond))

    def trunk(self, z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """What each token of the head is to be modulated by, ``[B, N, width]``."""
        time = self.time_embed(t)
        modulation = F.silu(self._extra_silu(self.condition(time, cond)))
        s = self.trunk_embed(z_t)
        if self.position is not None:
            s = s + self.position
        rope = self.trunk_rope() if self.trunk_rope is not None else None
        for block in self.trunk_blocks:
            s = block(s, modulation, rope)
        if self.config.has_time_in_head:
            s = s + time[:, None]
        return self._extra_silu(s)

    def head(self, z_t: Tensor, s: Tensor) -> Tensor:
        """Prediction ``[B, C, h, w]`` from the noised latent and the trunk's output ``s`` ``[B, N, width]``."""
        modulation = F.silu(self.to_head(s))
        rope = self.head_rope() if self.head_rope is not None else None
        x = self.head_embed(z_t)
        for block in self.head_blocks:
            x = block(x, modulation, rope)
        return unpatchify(self.final(x, modulation), self.grid, self.patch_size)

    def _extra_silu(self, x: Tensor) -> Tensor:
        return F.silu(x) if self.config.extra_silu else x
