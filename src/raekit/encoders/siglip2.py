"""SigLIP and SigLIP-2 at fixed resolution: the encoder of Scale-RAE, and one of RAE's.

In: image ``[B,3,H,W]`` in [0,1]. Out: all patch tokens; there is no class token, and the attention-pooling head is not
built. RAE takes ``last_hidden_state`` with the affine part of ``post_layernorm`` removed, Scale-RAE the hidden states
before ``post_layernorm`` followed by a LayerNorm without affine: the same tensor (Scale-RAE, section 2).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from raekit.encoders import source
from raekit.encoders.base import HALF, EncoderConfig, RepresentationEncoder

SIZES = {
    "base": "google/siglip2-base-patch16-256",
    "large": "google/siglip2-large-patch16-256",
    "so400m": "google/siglip2-so400m-patch14-224",
    "siglip1_base": "google/siglip-base-patch16-256",
    "siglip1_so400m": "google/siglip-so400m-patch14-224",
}


class SigLIP2(RepresentationEncoder):
    """The vision tower of SigLIP or SigLIP-2."""

    PIXEL_MEAN = HALF
    PIXEL_STD = HALF
    FINAL_NORM = "post_layernorm"
    UNUSED_WEIGHTS = ("head.", "vision_model.head.", "text_model.", "logit_scale", "logit_bias")

    class Config(EncoderConfig):
        """Which SigLIP tower, and how images enter it."""

        name: Literal["siglip2"] = "siglip2"
        size: Literal["base", "large", "so400m", "siglip1_base", "siglip1_so400m"] = "base"
        """Published tower: base 768 wide (RAE), so400m 1152 wide (Scale-RAE)."""

        @property
        def hub_id(self) -> str:
            """Hub id of ``size``."""
            return SIZES[self.size]

    def load_backbone(self) -> Any:
        """The tower without its pooling head."""
        settings = source.load_config(SiglipVisionConfig, self.source, self.config.revision, vision_use_head=False)
        return source.load_model(SiglipVisionModel, self.source, settings, self.config.revision, self.UNUSED_WEIGHTS)

    def hidden(self, pixels: Tensor) -> Tensor:
        """Patch tokens; the position table is interpolated when the input is not of the checkpoint's own size."""
        resized = self.input_size != self.backbone.config.image_size
        tokens: Tensor = self.backbone(pixels, interpolate_pos_encoding=resized).last_hidden_state
        return tokens
