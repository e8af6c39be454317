"""Frozen representation encoders: image to tokens.

In: image ``[B,3,H,W]`` in [0,1]. Out: tokens ``[B,N,D]`` in raster order, without class or register tokens. Each
encoder owns its resize, its pixel statistics and its final LayerNorm (RAE, section 3.1; Scale-RAE, section 2).
"""

from __future__ import annotations

from raekit.registry import Registry

ENCODERS = Registry(
    "encoders",
    {
        "dinov2": "raekit.encoders.dinov2:DINOv2",
        "dinov3": "raekit.encoders.dinov3:DINOv3",
        "mae": "raekit.encoders.mae:MAE",
        "nano": "raekit.encoders.nano:NanoEncoder",
        "siglip2": "raekit.encoders.siglip2:SigLIP2",
        "webssl": "raekit.encoders.webssl:WebSSL",
    },
)
