"""SigLIP and SigLIP-2 at fixed resolution: the encoder of Scale-RAE, and one of RAE's.

In: image ``[B,3,H,W]`` in [0,1]. Out: all patch tokens; there is no class token, and the attention-pooling head is not
built. RAE takes ``last_hidden_state`` with the affine part of ``post_layernorm`` removed, Scale-RAE the hidden states
before ``post_layernorm`` followed by a LayerNorm without affine: the same tensor (Scale-RAE, section 2).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from raekit.encoders import source
from raekit.encoders.base import HALF, EncoderConfig, RepresentationEncoder
from raekit.encoders.shapes import Shape

CHECKPOINTS: source.Checkpoints = {
    "base": {r: f"google/siglip2-base-patch16-{r}" for r in (256, 224, 384, 512)},
    "large": {r: f"google/siglip2-large-patch16-{r}" for r in (256, 384, 512)},
    "so400m": {
        224: "google/siglip2-so400m-patch14-224",
        256: "google/siglip2-so400m-patch16-256",
        384: "google/siglip2-so400m-patch16-384",
        512: "google/siglip2-so400m-patch16-512",
    },
    "siglip1_base": {r: f"google/siglip-base-patch16-{r}" for r in (256, 224, 384, 512)},
    "siglip1_so400m": {224: "google/siglip-so400m-patch14-224"},
}
"""The first resolution of a size is that of the papers. So400m also exists at 384 px with patch 14, which does not
divide 384: it is left out; its id as ``path`` and ``input_size: 378`` reach it."""

SHAPES = {
    "base": Shape(768, 12, 12, 3072, 16, 256),
    "large": Shape(1024, 24, 16, 4096, 16, 256),
    "so400m": Shape(1152, 27, 16, 4304, 14, 224),
}
"""Of each size at its first resolution; the towers of SigLIP are those of SigLIP-2."""


class SigLIP2(RepresentationEncoder):
    """The vision tower of SigLIP or SigLIP-2."""

    PIXEL_MEAN = HALF
    PIXEL_STD = HALF
    FINAL_NORM = "post_layernorm"
    UNUSED_WEIGHTS = ("head.", "vision_model.head.", "text_model.", "logit_scale", "logit_bias")
    CHANGES = {"vision_use_head": False}

    class Config(EncoderConfig):
        """Which SigLIP tower, and how images enter it."""

        name: Literal["siglip2"] = "siglip2"
        size: Literal["base", "large", "so400m", "siglip1_base", "siglip1_so400m"] = "base"
        """Published tower: base 768 wide (RAE), large 1024, so400m 1152 (Scale-RAE)."""
        resolution: int | None = None
        """Pixels that the checkpoint was trained at: 224, 256, 384 or 512, as published for ``size``; patch 16, but 14
        for so400m at 224. None: 256, and for so400m 224."""

        @property
        def hub_id(self) -> str:
            """Hub id of ``size`` at ``resolution``."""
            return source.published(CHECKPOINTS, self.size, self.resolution)

        @property
        def shape(self) -> Shape:
            """Of ``size``; the name of the checkpoint states its patch and resolution."""
            patch_size, image_size = map(int, self.hub_id.rpartition("-patch")[2].split("-"))
            return SHAPES[self.size.removeprefix("siglip1_")]._replace(patch_size=patch_size, image_size=image_size)

        @model_validator(mode="after")
        def _check_resolution(self) -> Self:
            if self.path is None:
                source.published(CHECKPOINTS, self.size, self.resolution)
            return self

    @classmethod
    def classes(cls, config: EncoderConfig) -> tuple[Any, Any]:
        """The tower, without its pooling head."""
        del config
        return SiglipVisionConfig, SiglipVisionModel

    @classmethod
    def published_settings(cls, config: EncoderConfig) -> Any:
        """All but the sizes is as transformers has it."""
        return SiglipVisionConfig(**config.shape.settings, intermediate_size=config.shape.mlp_width)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Patches; the position table is interpolated when the input is not of the checkpoint's own size."""
        resized = self.input_size != self.backbone.config.image_size
        return self.backbone.embeddings(pixels, interpolate_pos_encoding=resized), {"attention_mask": None}
