"""Encoders of every registered kind, a few thousand random weights each, saved as published checkpoints are.

In: a registered name and a directory. Out: that directory filled by ``save_pretrained``, and the encoder read from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from raekit.encoders import ENCODERS
from raekit.encoders.base import RepresentationEncoder

WIDTH = 32
DEPTH = 2
SIZES: dict[str, Any] = {"hidden_size": WIDTH, "num_attention_heads": 2}


def siglip(depth: int = DEPTH) -> nn.Module:
    config = transformers.SiglipVisionConfig(
        **SIZES, num_hidden_layers=depth, intermediate_size=48, image_size=32, patch_size=8
    )
    return transformers.SiglipVisionModel(config)


def dinov2(depth: int = DEPTH) -> nn.Module:
    config = transformers.Dinov2Config(**SIZES, num_hidden_layers=depth, mlp_ratio=2, image_size=56, patch_size=14)
    return transformers.Dinov2Model(config)


def dinov2_with_registers(depth: int = DEPTH) -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(
        **SIZES, num_hidden_layers=depth, mlp_ratio=2, image_size=56, patch_size=14, num_register_tokens=4
    )
    return transformers.Dinov2WithRegistersModel(config)


def dinov3(depth: int = DEPTH, **options: Any) -> nn.Module:
    config = transformers.DINOv3ViTConfig(
        **SIZES,
        num_hidden_layers=depth,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        num_register_tokens=4,
        **options,
    )
    return transformers.DINOv3ViTModel(config)


def mae(depth: int = DEPTH) -> nn.Module:
    config = transformers.ViTMAEConfig(
        **SIZES, num_hidden_layers=depth, intermediate_size=48, image_size=32, patch_size=8
    )
    return transformers.ViTMAEModel(config)


BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "dinov2": dinov2_with_registers,
    "dinov3": dinov3,
    "mae": mae,
    "nano": siglip,
    "siglip2": siglip,
    "webssl": dinov2,
}
INPUT_SIZES = {"dinov2": 56, "dinov3": 32, "mae": 32}
"""For the encoders whose published input size is not the checkpoint's own."""


def save(name: str, directory: Path, seed: int = 0, depth: int = DEPTH) -> Path:
    """A checkpoint of the kind that encoder ``name`` reads; its norms are not the identity."""
    torch.manual_seed(seed)
    backbone: Any = BACKBONES[name](depth)
    with torch.no_grad():
        for key, value in backbone.named_parameters():
            if "norm" in key:
                value.add_(0.3 * torch.randn_like(value))
    backbone.save_pretrained(directory)
    return directory


def config(name: str, directory: Path, **options: Any) -> Any:
    """The settings that read a directory filled by :func:`save`; 4 x 4 tokens unless told otherwise."""
    defaults = {"path": str(directory)} | ({"input_size": INPUT_SIZES[name]} if name in INPUT_SIZES else {})
    return ENCODERS[name].Config(**defaults | options)


def build(name: str, directory: Path, seed: int = 0, depth: int = DEPTH, **options: Any) -> RepresentationEncoder:
    """An encoder of that kind, saved to ``directory`` and read back."""
    encoder: RepresentationEncoder = ENCODERS.build(config(name, save(name, directory, seed, depth), **options))
    return encoder
