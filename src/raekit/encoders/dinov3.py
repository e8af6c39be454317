"""DINOv3: rotary positions and patch 16, the encoder of RAEv2.

In: image ``[B,3,H,W]`` in [0,1]. Out: patch tokens; the class token and the four registers are dropped. Positions are
rotations of queries and keys, computed for the grid at hand: no table is interpolated (arXiv 2508.10104; RAEv2,
arXiv 2605.18324, takes 256 px and ``layers``).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.encoders.shapes import Shape

SIZES = {
    "small": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "small_plus": "facebook/dinov3-vits16plus-pretrain-lvd1689m",
    "base": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "large": "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "huge_plus": "facebook/dinov3-vith16plus-pretrain-lvd1689m",
    "7b": "facebook/dinov3-vit7b16-pretrain-lvd1689m",
}
SHAPES = {
    "small": Shape(384, 12, 6, 1536, 16, 224),
    "small_plus": Shape(384, 12, 6, 1536, 16, 224, is_gated=True),
    "base": Shape(768, 12, 12, 3072, 16, 224),
    "large": Shape(1024, 24, 16, 4096, 16, 224),
    "huge_plus": Shape(1280, 32, 20, 5120, 16, 224, is_gated=True),
    "7b": Shape(4096, 40, 32, 8192, 16, 224, is_gated=True),
}


class DINOv3(RepresentationEncoder):
    """A DINOv3 vision transformer. Its weights are given out on request: accept the licence on the hub first."""

    FINAL_NORM = "norm"

    class Config(EncoderConfig):
        """Which DINOv3, and how images enter it."""

        name: Literal["dinov3"] = "dinov3"
        size: Literal["small", "small_plus", "base", "large", "huge_plus", "7b"] = "base"
        """Published size: 384, 384, 768, 1024, 1280 or 4096 wide, patch 16."""
        input_size: int | None = 256
        """Side, pixels; 256 gives 16 x 16 tokens, 512 gives 32 x 32."""

        @property
        def hub_id(self) -> str:
            """Hub id of ``size``."""
            return SIZES[self.size]

        @property
        def shape(self) -> Shape:
            """Of ``size``."""
            return SHAPES[self.size]

    config: Config

    @classmethod
    def classes(cls, config: Config) -> tuple[Any, Any]:
        """One kind for all sizes."""
        del config
        return DINOv3ViTConfig, DINOv3ViTModel

    @classmethod
    def published_settings(cls, config: Config) -> Any:
        """Keys have no bias; in the largest neither have queries and values."""
        shape, has_bias = config.shape, config.size != "7b"
        return DINOv3ViTConfig(
            **shape.settings,
            intermediate_size=shape.mlp_width,
            use_gated_mlp=shape.is_gated,
            num_register_tokens=4,
            query_bias=has_bias,
            value_bias=has_bias,
        )

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token, registers and patches, and the rotations of the patches' positions."""
        return self.backbone.embeddings(pixels), {"position_embeddings": self.backbone.rope_embeddings(pixels)}
