"""Adapters merged into a generator: a generator of its own, which needs neither peft nor the adapters.

In: the directories of a generator and of adapters (:mod:`raekit.lora`). Out: a generator's directory.
"""

from __future__ import annotations

from pathlib import Path

from raekit import config as recipes
from raekit import generator_files
from raekit.generate import ImageGenerator, build_generator
from raekit.lora import Adapter, adapted_parts


def merge_lora(model: str | Path, adapter: Path, out: Path, scale: float = 1.0) -> str:
    """Write a generator into whose weights adapters are merged; returns its checksum.

    A frozen language model that is adapted becomes a part of the generator, held in fp32.

    Args:
        model: directory or hub id of the generator.
        adapter: directory of the adapters.
        out: directory to write; replaced as a whole, or left as it was.
        scale: what the adapters say is multiplied by this.

    Raises:
        UserError: no generator or adapters there, or they do not fit each other.
    """
    files, latent_path = generator_files.read(model), generator_files.read_settings(model)[1]
    settings = recipes.validate(ImageGenerator.Config, files.settings, f"model {str(model)!r}")
    optional = ""
    if "language_model" in adapted_parts(adapter) and not getattr(settings.condition, "is_llm_trained", True):
        condition = settings.condition.model_copy(update={"is_llm_trained": True})
        settings, optional = settings.model_copy(update={"condition": condition}), "language_model."
    generator = build_generator(settings, files.load_latent_space(), "cpu", "fp32")
    files.load_into(generator.modules, optional)
    Adapter.load(generator.backbone, generator.conditioner, adapter, scale).merge()
    generator.save(out, latent_path)
    return generator.checksum
