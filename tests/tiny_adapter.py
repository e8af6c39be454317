"""Adapters with random weights for the tiny generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import tiny_generator
from raekit.generate import TextToImage
from raekit.lora import Adapter, LoRAConfig


def fresh(generator: TextToImage, **settings: Any) -> Adapter:
    """Adapters of rank 2 that say nothing yet."""
    return Adapter.fresh(generator.backbone, generator.conditioner, LoRAConfig(rank=2, alpha=4, **settings))


def saved(folder: Path) -> tuple[Path, Path]:
    """The directories of a generator, and of adapters of both its parts that say something."""
    path = tiny_generator.saved(folder)
    return path, beside(path, folder / "adapters" / "mine")


def beside(path: Path, folder: Path) -> Path:
    """``folder``, where adapters of both parts of the generator at ``path`` were saved that say something."""
    generator = TextToImage.load(path, "cpu", "fp32")
    adapter = fresh(generator, parts=("backbone", "language_model"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    adapter.save(folder, generator.checksum)
    return folder
