"""Whole generators of a few thousand random weights: latent space, conditioner and backbone, built in an instant.

In: a directory. Out: a generator in the latent space saved at ``directory/autoencoder``, or where it was saved itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import tiny_encoders
import tiny_language_model
from raekit.autoencoder.rae import RAE
from raekit.generate import ClassToImage, ImageGenerator, TextToImage, build_generator

DECODER = {"size": "nano", "width": 16, "depth": 1, "heads": 2, "mlp_width": 24, "patch_size": 4}
BACKBONE = {"name": "dit", "size": "nano", "width": 40, "depth": 1, "heads": 2}
WIDTH = 24


def latent_space(directory: Path, seed: int = 0) -> RAE:
    """A latent space of 32 channels on a 4 x 4 grid, saved at ``directory``; its images are 16 px wide."""
    encoder = tiny_encoders.save("nano", directory.with_name(f"{directory.name}_encoder"))
    torch.manual_seed(seed)
    config = {"encoder": {"name": "nano", "path": str(encoder)}, "decoder": DECODER}
    rae = RAE(RAE.Config.model_validate(config))
    rae.save(directory)
    return rae


def text_to_image(directory: Path, **settings: Any) -> TextToImage:
    """A generator that reads prompts with the tiny language model."""
    model = tiny_language_model.saved(directory / "language_model")
    generator = _build(directory, {"name": "query", "language_model": model, "precision": "fp32"}, settings)
    assert isinstance(generator, TextToImage)
    return generator


def unified(directory: Path, condition: dict[str, Any] | None = None, **settings: Any) -> TextToImage:
    """A generator whose language model, the tiny one, can be asked about what it sees and draws."""
    model = tiny_language_model.saved(directory / "language_model")
    told = {"name": "unified", "language_model": model, "precision": "fp32", **(condition or {})}
    generator = _build(directory, told, settings)
    assert isinstance(generator, TextToImage)
    return generator


def class_to_image(directory: Path, **settings: Any) -> ClassToImage:
    """A generator of five classes."""
    generator = _build(directory, {"name": "label", "num_classes": 5}, settings)
    assert isinstance(generator, ClassToImage)
    return generator


def saved(directory: Path, **settings: Any) -> Path:
    """``directory/generator``, where a text generator was saved."""
    text_to_image(directory, **settings).save(directory / "generator", directory / "autoencoder")
    return directory / "generator"


def _build(directory: Path, condition: dict[str, Any], settings: dict[str, Any]) -> ImageGenerator:
    recipe = {"backbone": BACKBONE, "condition": {**condition, "width": WIDTH}, "sampling": {"steps": 3}, **settings}
    rae = latent_space(directory / "autoencoder")
    torch.manual_seed(1)
    generator = build_generator(ImageGenerator.Config.model_validate(recipe), rae, precision="fp32")
    with torch.no_grad():
        for module in generator.modules.values():
            for parameter in module.parameters():
                # A fresh backbone says zero whatever it is told; this one reacts.
                parameter.add_(0.1 * torch.randn_like(parameter))
    return generator
