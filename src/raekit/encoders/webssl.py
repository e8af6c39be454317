"""WebSSL: DINOv2's architecture trained on web images, the second encoder of Scale-RAE.

In: image ``[B,3,H,W]`` in [0,1]. Out: patch tokens after the network's own final LayerNorm, affine part included, and
no further norm (Scale-RAE, section 2, as released).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from raekit.encoders import source
from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.encoders.shapes import Shape

CHECKPOINTS: source.Checkpoints = {
    "300m": {224: "facebook/webssl-dino300m-full2b-224"},
    "1b": {224: "facebook/webssl-dino1b-full2b-224"},
    "2b": {224: "facebook/webssl-dino2b-full2b-224"},
    "3b": {224: "facebook/webssl-dino3b-full2b-224"},
    "5b": {224: "facebook/webssl-dino5b-full2b-224"},
    "7b": {
        224: "facebook/webssl-dino7b-full8b-224",
        378: "facebook/webssl-dino7b-full8b-378",
        518: "facebook/webssl-dino7b-full8b-518",
    },
}
SHAPES = {
    "300m": Shape(1024, 24, 16, 2736, 14, 224, is_gated=True),
    "1b": Shape(1536, 40, 24, 4096, 14, 224, is_gated=True),
    "2b": Shape(2688, 24, 21, 7168, 14, 224, is_gated=True),
    "3b": Shape(3072, 26, 24, 8192, 14, 224, is_gated=True),
    "5b": Shape(3584, 32, 28, 9560, 14, 224, is_gated=True),
    "7b": Shape(4096, 32, 32, 10928, 14, 224, is_gated=True),
}
"""Of each size at its first resolution (arXiv 2504.01017; every MLP is a SwiGLU)."""


class WebSSL(RepresentationEncoder):
    """A WebSSL-DINO vision transformer."""

    class Config(EncoderConfig):
        """Which WebSSL, and how images enter it."""

        name: Literal["webssl"] = "webssl"
        size: Literal["300m", "1b", "2b", "3b", "5b", "7b"] = "300m"
        """Published size; 300m is 1024 wide (Scale-RAE), 7b 4096."""
        resolution: int | None = None
        """Pixels that the checkpoint was trained at: 224 (None means that), and for 7b also 378 and 518."""
        resize: Literal["bicubic", "bicubic_antialias", "bilinear", "bilinear_antialias", "none"] = "bicubic_antialias"
        """Filter for images of another size; the default is that of the published image processor."""
        norm: Literal["affine_free", "affine", "none"] = "affine"
        """Final LayerNorm; Scale-RAE keeps its weight and bias here."""

        @property
        def hub_id(self) -> str:
            """Hub id of ``size`` at ``resolution``."""
            return source.published(CHECKPOINTS, self.size, self.resolution)

        @property
        def shape(self) -> Shape:
            """Of ``size``, with the position table of ``resolution``."""
            shape = SHAPES[self.size]
            return shape._replace(image_size=self.resolution or shape.image_size)

        @model_validator(mode="after")
        def _check_resolution(self) -> Self:
            if self.path is None:
                source.published(CHECKPOINTS, self.size, self.resolution)
            return self

    config: Config

    @classmethod
    def classes(cls, config: Config) -> tuple[Any, Any]:
        """DINOv2 without registers."""
        del config
        return Dinov2Config, Dinov2Model

    @classmethod
    def published_settings(cls, config: Config) -> Any:
        """The MLP's width follows from that of the tokens."""
        return Dinov2Config(**config.shape.settings, use_swiglu_ffn=config.shape.is_gated)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token and patches; the position table is interpolated to the input size."""
        return self.backbone.embeddings(pixels), {}
