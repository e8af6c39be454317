"""Masked autoencoder (MAE), unmasked: the encoder of RAE with the best reconstruction.

In: image ``[B,3,H,W]`` in [0,1]. Out: all patch tokens in raster order, without the class token. Nothing is masked, and
the network's shuffle is given an order that it keeps (RAE, section 3.1).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEModel

from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.encoders.shapes import Shape

SHAPES = {
    "base": Shape(768, 12, 12, 3072, 16, 224),
    "large": Shape(1024, 24, 16, 4096, 16, 224),
    "huge": Shape(1280, 32, 16, 5120, 14, 224),
}


class MAE(RepresentationEncoder):
    """The encoder half of a masked autoencoder."""

    UNUSED_WEIGHTS = ("decoder", "mask_token")
    CHANGES = {"mask_ratio": 0.0}

    class Config(EncoderConfig):
        """Which MAE, and how images enter it."""

        name: Literal["mae"] = "mae"
        size: Literal["base", "large", "huge"] = "base"
        """Published size: 768, 1024 (patch 16) or 1280 (patch 14) wide."""
        input_size: int | None = 256
        """Side, pixels; RAE uses 256 although MAE was trained at 224. ``huge``, whose patch does not divide 256, takes
        224 unless told otherwise."""

        @model_validator(mode="before")
        @classmethod
        def _fit_patch_of_huge(cls, values: Any) -> Any:
            if isinstance(values, dict) and values.get("size") == "huge":
                return {"input_size": 224} | values
            return values

        @property
        def hub_id(self) -> str:
            """Hub id of ``size``."""
            return f"facebook/vit-mae-{self.size}"

        @property
        def shape(self) -> Shape:
            """Of ``size``."""
            return SHAPES[self.size]

    config: Config

    @classmethod
    def classes(cls, config: Config) -> tuple[Any, Any]:
        """The encoder half, with masking off."""
        del config
        return ViTMAEConfig, ViTMAEModel

    @classmethod
    def published_settings(cls, config: Config) -> Any:
        """All but the sizes is as transformers has it."""
        return ViTMAEConfig(**config.shape.settings, intermediate_size=config.shape.mlp_width)

    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Class token and all patches; the position table is interpolated to the input size."""
        # The network sorts its patches by this "noise" even when it masks none; in float32 the ranks stay distinct.
        ranks = torch.arange(self.grid**2, device=pixels.device, dtype=torch.float32).expand(len(pixels), -1)
        tokens, _, _ = self.backbone.embeddings(pixels, noise=ranks, interpolate_pos_encoding=True)
        return tokens, {}
