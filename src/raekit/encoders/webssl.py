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

        @model_validator(mode="after")
        def _check_resolution(self) -> Self:
            if self.path is None:
                source.published(CHECKPOINTS, self.size, self.resolution)
            return self

    config: Config

    def load_backbone(self) -> Any:
        """The transformer."""
        settings = source.load_config(Dinov2Config, self.source, self.config.revision)
        return source.load_model(Dinov2Model, self.source, settings, self.config.revision, self.UNUSED_WEIGHTS)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token and patches; the position table is interpolated to the input size."""
        return self.backbone.embeddings(pixels), {}
