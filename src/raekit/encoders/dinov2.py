"""DINOv2, with or without register tokens: RAE's default encoder.

In: image ``[B,3,H,W]`` in [0,1]. Out: patch tokens; the class token and the registers are dropped. The position table
of 518 px is interpolated to the input size inside the network (RAE, section 3.1).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from raekit.encoders import source
from raekit.encoders.base import EncoderConfig, RepresentationEncoder


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

    config: Config

    def load_backbone(self) -> Any:
        """The transformer, with or without registers as the settings say."""
        kinds = (Dinov2WithRegistersConfig, Dinov2WithRegistersModel), (Dinov2Config, Dinov2Model)
        config_class, model_class = kinds[0] if self.config.has_registers else kinds[1]
        settings = source.load_config(config_class, self.source, self.config.revision)
        return source.load_model(model_class, self.source, settings, self.config.revision, self.UNUSED_WEIGHTS)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token, registers and patches; the position table is interpolated to the input size."""
        return self.backbone.embeddings(pixels), {}
