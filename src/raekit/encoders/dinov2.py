"""DINOv2, with or without register tokens: RAE's default encoder.

In: image ``[B,3,H,W]`` in [0,1]. Out: patch tokens; the class token and the registers are dropped. The position table
of 518 px is interpolated to the input size inside the network (RAE, section 3.1).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.encoders.shapes import Shape

SHAPES = {
    "small": Shape(384, 12, 6, 1536, 14, 518),
    "base": Shape(768, 12, 12, 3072, 14, 518),
    "large": Shape(1024, 24, 16, 4096, 14, 518),
    "giant": Shape(1536, 40, 24, 4096, 14, 518, is_gated=True),
}


class DINOv2(RepresentationEncoder):
    """A DINOv2 vision transformer; its checkpoint says whether it has registers."""

    UNUSED_WEIGHTS = ("classifier.",)

    class Config(EncoderConfig):
        """Which DINOv2, and how images enter it."""

        name: Literal["dinov2"] = "dinov2"
        size: Literal["small", "base", "large", "giant"] = "base"
        """Published size: 384, 768, 1024 or 1536 wide, patch 14."""
        has_registers: bool = True
        """Use the checkpoints with four register tokens, as RAE does."""
        input_size: int | None = 224
        """Side, pixels; 224 gives 16 x 16 tokens, 448 gives 32 x 32."""

        @property
        def hub_id(self) -> str:
            """Hub id of ``size``."""
            return f"facebook/dinov2-{'with-registers-' if self.has_registers else ''}{self.size}"

        @property
        def shape(self) -> Shape:
            """Of ``size``."""
            return SHAPES[self.size]

    config: Config

    @classmethod
    def classes(cls, config: Config) -> tuple[Any, Any]:
        """With or without registers, as the settings say."""
        with_registers = Dinov2WithRegistersConfig, Dinov2WithRegistersModel
        return with_registers if config.has_registers else (Dinov2Config, Dinov2Model)

    @classmethod
    def published_settings(cls, config: Config) -> Any:
        """The MLP's width follows from that of the tokens."""
        config_class, _ = cls.classes(config)
        return config_class(**config.shape.settings, use_swiglu_ffn=config.shape.is_gated)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token, registers and patches; the position table is interpolated to the input size."""
        return self.backbone.embeddings(pixels), {}
