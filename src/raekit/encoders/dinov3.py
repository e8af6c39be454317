"""DINOv3: rotary positions and patch 16, the encoder of RAEv2.

In: image ``[B,3,H,W]`` in [0,1]. Out: patch tokens; the class token and the four registers are dropped. Positions are
rotations of queries and keys, computed for the grid at hand: no table is interpolated (arXiv 2508.10104; RAEv2,
arXiv 2605.18324, takes 256 px and ``layers``).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from raekit.encoders import source
from raekit.encoders.base import EncoderConfig, RepresentationEncoder

SIZES = {
    "small": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "small_plus": "facebook/dinov3-vits16plus-pretrain-lvd1689m",
    "base": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "large": "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "huge_plus": "facebook/dinov3-vith16plus-pretrain-lvd1689m",
    "7b": "facebook/dinov3-vit7b16-pretrain-lvd1689m",
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

    config: Config

    def load_backbone(self) -> Any:
        """The transformer."""
        settings = source.load_config(DINOv3ViTConfig, self.source, self.config.revision)
        return source.load_model(DINOv3ViTModel, self.source, settings, self.config.revision, self.UNUSED_WEIGHTS)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token, registers and patches, and the rotations of the patches' positions."""
        return self.backbone.embeddings(pixels), {"position_embeddings": self.backbone.rope_embeddings(pixels)}
