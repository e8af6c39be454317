"""DiT: one trunk of equal blocks, as LightningDiT in RAE and as the diffusion head of Scale-RAE.

    z_t -> patch -> + position -> [block x depth, modulated by silu(time + cond)] -> final -> output

In: noised latent, time, condition. Out: prediction of the latent's shape. The two published forms are one class:
Scale-RAE has a condition per token and passes it through one SiLU more (``extra_silu``). RAE appendix D, Scale-RAE
section 3.1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raekit.backbones.base import Backbone, BackboneConfig, position_buffer, rope_module, stack
from raekit.backbones.block import FinalLayer
from raekit.conditioning.base import Cond
from raekit.layers.embeddings import PatchEmbed, unpatchify


class Preset(NamedTuple):
    """Shape of a size."""

    width: int
    depth: int
    heads: int


PRESETS = {
    "nano": Preset(320, 10, 5),
    "S": Preset(384, 12, 6),
    "B": Preset(768, 12, 12),
    "L": Preset(1024, 24, 16),
    "XL": Preset(1152, 28, 16),  # 677 M parameters; gFID-50k 4.28 after 80 epochs on DINOv2-B, 2.39 after 720
    "XXL": Preset(1280, 32, 16),
    "H": Preset(1536, 32, 16),
    "G": Preset(2048, 40, 16),
    "T": Preset(2688, 40, 21),
    "0.5B": Preset(1280, 16, 32),
    "2.4B": Preset(2048, 32, 32),  # GenEval 49.5, DPG 76.9 after pretraining with a 1.5B language model
    "3.1B": Preset(2304, 32, 32),
    "5.5B": Preset(3072, 32, 32),  # GenEval 53.2; 55.5 with a 7B language model
    "9.8B": Preset(4096, 32, 32),
}
"""S to T: RAE, table 13. 0.5B to 9.8B: Scale-RAE, table 10 (its 3.1B is called 3.3B there). nano: ours, for a CPU."""


class DiT(Backbone):
    """Diffusion transformer with a single trunk.

    Args:
        config: size and form.
        latent_shape: ``(C, h, w)``.
        cond_width: width ``Z`` of the condition.
    """

    position: Tensor | None

    class Config(BackboneConfig):
        """Size and form of a DiT; a field set beside ``size`` overrides that part of the preset."""

        name: Literal["dit"] = "dit"
        size: Literal["nano", "S", "B", "L", "XL", "XXL", "H", "G", "T", "0.5B", "2.4B", "3.1B", "5.5B", "9.8B"] = "XL"
        """Preset that fills the next three fields (see ``PRESETS``)."""
        width: int | None = Field(None, gt=0)
        """Token width D; keep it above the latent's token width (RAE, theorem 1)."""
        depth: int | None = Field(None, gt=0)
        """Number of blocks."""
        heads: int | None = Field(None, gt=0)
        """Attention heads; D over heads must be a multiple of 4."""
        extra_silu: bool = False
        """Pass the summed condition through a SiLU ahead of the one in each modulation, as Scale-RAE does."""

        @property
        def shape(self) -> Preset:
            """The preset with the overrides applied."""
            return PRESETS[self.size]._replace(**{f: v for f in Preset._fields if (v := getattr(self, f)) is not None})

    def __init__(self, config: Config, latent_shape: tuple[int, int, int], cond_width: int) -> None:
        super().__init__(latent_shape, cond_width, config.patch_size)
        self.config = config
        width, depth, heads = config.shape
        self.warn_if_narrow("width", width)
        self.embed = PatchEmbed(latent_shape[0], width, config.patch_size)
        self.register_buffer("position", position_buffer(config, width, self.grid))
        self.rope = rope_module(config, width // heads, self.grid)
        self.blocks = stack(config, width, depth, heads, cond_width)
        self.final = FinalLayer(config.norm, width, cond_width, self.token_width)
        self.initialise()

    def initialise(self) -> None:
        """Initial weights and tables: Xavier-uniform, as both papers' code starts this model."""
        self.set_initial_values(is_xavier=True)

    def forward(self, z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Prediction ``[B, C, h, w]`` for ``z_t`` ``[B, C, h, w]`` at ``t`` ``[B]``.

        Raises:
            UserError: the latent or the condition is not of the shape this model was built for.
        """
        self.check_latent(z_t)
        summed = self.condition(self.time_embed(t), cond)
        modulation = F.silu(F.silu(summed) if self.config.extra_silu else summed)
        x = self.embed(z_t)
        if self.position is not None:
            x = x + self.position
        rope = self.rope() if self.rope is not None else None
        for block in self.blocks:
            x = block(x, modulation, rope)
        return unpatchify(self.final(x, modulation), self.grid, self.patch_size)
