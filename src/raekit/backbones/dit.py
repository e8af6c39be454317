"""DiT: one trunk of equal blocks, as LightningDiT in RAE and as the diffusion head of Scale-RAE.

    z_t -> trunk (``base.py``) -> final -> output

In: noised latent, time, condition. Out: prediction of the latent's shape. The two published forms are one class:
Scale-RAE has a condition per token and passes it through one SiLU more (``extra_silu``). RAE appendix D, Scale-RAE
section 3.1.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from raekit.backbones.base import Backbone, BackboneConfig, Shape, Trunk
from raekit.backbones.block import FinalLayer
from raekit.backbones.sizes import DIT, describe


class DiT(Backbone):
    """Diffusion transformer with a single trunk.

    Args:
        config: size and form.
        latent_shape: ``(C, h, w)``.
        cond_width: width ``Z`` of the condition.
    """

    class Config(BackboneConfig):
        """Size and form of a DiT; a field set beside ``size`` overrides that part of the preset."""

        name: Literal["dit"] = "dit"
        size: Literal["nano", "S", "B", "L", "XL", "XXL", "H", "G", "T", "0.5B", "2.4B", "3.1B", "5.5B", "9.8B"] = "XL"
        """Preset that fills the next three fields (`raekit list backbones`)."""
        width: int | None = Field(None, gt=0)
        """Token width D; keep it above the latent's token width (RAE, theorem 1)."""
        depth: int | None = Field(None, gt=0)
        """Number of blocks."""
        heads: int | None = Field(None, gt=0)
        """Attention heads; D over heads must be a multiple of 4."""

        @property
        def shape(self) -> Shape:
            """The preset with the overrides applied."""
            return DIT[self.size]._replace(**{f: v for f in Shape._fields if (v := getattr(self, f)) is not None})

    config: Config

    def __init__(self, config: Config, latent_shape: tuple[int, int, int], cond_width: int) -> None:
        super().__init__(config, latent_shape, cond_width, config.shape)
        self.warn_if_narrow("width", self.width)
        self.final = FinalLayer(config.norm, self.width, cond_width, self.token_width)
        self.initialise()

    @classmethod
    def variants(cls) -> list[tuple[str, str]]:
        """Every size with its exact number of parameters: what `raekit list backbones` prints."""
        return [(size, describe(cls, size)) for size in DIT]

    def initialise(self) -> None:
        """Initial weights and tables: Xavier-uniform, as both papers' code starts this model."""
        self.set_initial_values(is_xavier=True)

    def predict(self, z_t: Tensor, trunk: Trunk) -> Tensor:
        """Prediction ``[B, C, h, w]`` from the trunk's tokens."""
        del z_t
        return self.to_latent(self.final(trunk.tokens, trunk.modulation))
