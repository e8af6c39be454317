"""WebSSL: DINOv2's architecture trained on web images, the second encoder of Scale-RAE.

In: image ``[B,3,H,W]`` in [0,1]. Out: patch tokens after the network's own final LayerNorm, affine part included, and
no further norm (Scale-RAE, section 2, as released).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from raekit.encoders import source
from raekit.encoders.base import EncoderConfig, RepresentationEncoder

SIZES = {
    "300m": "facebook/webssl-dino300m-full2b-224",
    "1b": "facebook/webssl-dino1b-full2b-224",
    "2b": "facebook/webssl-dino2b-full2b-224",
    "7b": "facebook/webssl-dino7b-full8b-224",
}


class WebSSL(RepresentationEncoder):
    """A WebSSL-DINO vision transformer."""

    class Config(EncoderConfig):
        """Which WebSSL, and how images enter it."""

        name: Literal["webssl"] = "webssl"
        size: Literal["300m", "1b", "2b", "7b"] = "300m"
        """Published size; 300m is 1024 wide (Scale-RAE)."""
        resize: Literal["bicubic", "bicubic_antialias", "bilinear", "bilinear_antialias", "none"] = "bicubic_antialias"
        """Filter for images of another size; the default is that of the published image processor."""
        norm: Literal["affine_free", "affine", "none"] = "affine"
        """Final LayerNorm; Scale-RAE keeps its weight and bias here."""

        @property
        def hub_id(self) -> str:
            """Hub id of ``size``."""
            return SIZES[self.size]

    config: Config

    def load_backbone(self) -> Any:
        """The transformer."""
        settings = source.load_config(Dinov2Config, self.source, self.config.revision)
        return source.load_model(Dinov2Model, self.source, settings, self.config.revision, self.UNUSED_WEIGHTS)

    def hidden(self, pixels: Tensor) -> Tensor:
        """Patch tokens: all but the class token."""
        tokens: Tensor = self.backbone(pixels).last_hidden_state[:, 1:]
        return tokens
