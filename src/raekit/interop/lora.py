"""Adapters merged into a generator: a generator of its own, which needs neither peft nor the adapters.

In: the directories of a generator and of adapters (:mod:`raekit.lora`). Out: a generator's directory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raekit import config as recipes
from raekit import generator_files
from raekit.autoencoder.base import Autoencoder
from raekit.conditioning.prompt import PromptConditioner
from raekit.generate import ImageGenerator, build_generator
from raekit.generator_files import GeneratorConfig, GeneratorFiles
from raekit.lora import Adapter, adapted_parts


def merge_lora(model: str | Path, adapter: Path, out: Path, scale: float = 1.0) -> str:
    """Write a generator into whose weights adapters are merged; returns its checksum.

    A frozen language model that is adapted becomes a part of the generator, held in fp32, and adapters that are part
    of the generator (``condition.lora``) become a part of that.

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
    latent_space = files.load_latent_space()
    if "language_model" in adapted_parts(adapter) and not getattr(settings.condition, "is_llm_trained", True):
        generator: ImageGenerator = _with_language_model(settings, files, latent_space)
    else:
        generator = build_generator(settings, latent_space, "cpu", "fp32")
        files.load_into(generator.modules)
    Adapter.load(generator.backbone, generator.conditioner, adapter, scale).merge()
    generator.save(out, latent_path)
    return generator.checksum


def _with_language_model(settings: GeneratorConfig, files: GeneratorFiles, latent_space: Autoencoder) -> ImageGenerator:
    """A generator whose frozen language model is a part of it, with what that learned beside its weights."""
    condition, lora = settings.condition, getattr(settings.condition, "lora", None)
    changes = {"is_llm_trained": True} | ({} if lora is None else {"lora": None})
    settings = settings.model_copy(update={"condition": condition.model_copy(update=changes)})
    generator = build_generator(settings, latent_space, "cpu", "fp32")
    learned = {}
    if lora is not None:
        theirs = ("conditioner.adapters.", "conditioner.marks")
        learned = {name: value for name, value in files.tensors.items() if name.startswith(theirs)}
        files = replace(files, tensors={k: v for k, v in files.tensors.items() if k not in learned})
    # These are the language model's own, already there.
    files.load_into(generator.modules, ("conditioner.language_model.", "conditioner.head."))
    if lora is not None:
        assert isinstance(generator.conditioner, PromptConditioner)
        generator.conditioner.absorb(lora, {k.removeprefix("conditioner."): v for k, v in learned.items()})
    return generator
