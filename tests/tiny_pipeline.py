"""Class-conditional generators with a published form, and the latent space that goes with them.

In: a directory. Out: a tiny DiT-DH saved in a latent space that diffusers can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import tiny_published
from raekit.autoencoder.base import load_autoencoder
from raekit.generate import ClassToImage, ImageGenerator, build_generator
from raekit.interop.convert import convert

NAMES = ("cat", "dog", "red apple", "boat")
DIT_DH = {"name": "dit_dh", "size": "nano", "width": 72, "depth": 2, "heads": 2}
DIT_DH |= {"head_width": 80, "head_depth": 1, "head_heads": 2}


def latent_space(directory: Path) -> Path:
    """An AutoencoderRAE of a MAE, as our artefact."""
    convert(tiny_published.save_diffusers(directory / "published", "mae"), directory / "autoencoder")
    return directory / "autoencoder"


def class_to_image(directory: Path, space: Path, **settings: Any) -> ClassToImage:
    """A generator of four named classes, saved at ``directory``."""
    recipe: dict[str, Any] = {
        "backbone": DIT_DH,
        "condition": {"name": "label", "num_classes": len(NAMES), "width": 72, "names": NAMES},
        "sampling": {"steps": 3, "guidance_scale": 2.0, "guidance_interval": (0.1, 1.0)},
        **settings,
    }
    torch.manual_seed(1)
    config = ImageGenerator.Config.model_validate(recipe)
    generator = build_generator(config, load_autoencoder(space), precision="fp32")
    assert isinstance(generator, ClassToImage)
    with torch.no_grad():
        for module in generator.modules.values():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    generator.save(directory, space)
    return generator
