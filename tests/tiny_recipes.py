"""Whole recipes of each stage that run in a second: drawn pictures, a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny_data
import tiny_encoders
import tiny_generator
import tiny_language_model
import tiny_sprites
from raekit.config import validate
from raekit.training import STAGES
from raekit.training.stage import Recipe


def encoder(folder: Path) -> dict[str, Any]:
    """Stage ``encoder``: 16 px pictures, 2 x 2 tokens."""
    data = tiny_data.data(folder / "pictures", 16)
    return {
        "stage": "encoder",
        "run": str(folder / "run"),
        "data": data,
        "held_out": data,
        "image_size": 16,
        "patch_size": 8,
        "vision": {"width": 32, "depth": 1, "heads": 2},
        "text": {"width": 16, "depth": 1, "heads": 2},
        "vocabulary": 300,
        "caption_tokens": 8,
        "decoder": {**tiny_generator.DECODER, "patch_size": 8},
        "num_held_out": 8,
        "train": train(),
        "optim": {"lr": 1e-3},
    }


def stage1(folder: Path) -> dict[str, Any]:
    """Stage 1: a decoder for the tiny SigLIP."""
    data = tiny_data.data(folder / "pictures")
    return {
        "stage": "stage1",
        "run": str(folder / "run"),
        "data": data,
        "held_out": data,
        "autoencoder": {
            "name": "rae",
            "encoder": {"name": "nano", "path": str(tiny_encoders.save("nano", folder / "encoder"))},
            "decoder": {**tiny_generator.DECODER, "patch_size": 8},
        },
        "losses": {"gradient": 0.5, "encoder": 0.1},
        "num_held_out": 8,
        "train": train(),
        "optim": {"lr": 1e-3, "schedule": {"warmup_steps": 2}},
    }


def stage2(folder: Path, **condition: Any) -> dict[str, Any]:
    """Stage 2: a generator in the latent space of :mod:`tiny_generator`."""
    data = tiny_data.data(folder / "pictures")
    tiny_generator.latent_space(folder / "autoencoder")
    model = tiny_language_model.saved(folder / "language_model")
    return {
        "stage": "stage2",
        "run": str(folder / "run"),
        "latent_space": str(folder / "autoencoder"),
        "data": data,
        "held_out": data,
        "condition": {"name": "query", "language_model": model, "precision": "fp32", "width": 16, **condition},
        "backbone": tiny_generator.BACKBONE,
        "sampling": {"steps": 2},
        "sample_prompts": ["a red circle", "a blue square"],
        "num_held_out": 8,
        "train": train(),
        "optim": {"lr": 1e-3},
    }


def unified(folder: Path, **condition: Any) -> dict[str, Any]:
    """Unified stage: requests for the drawn pictures and questions about shapes, around a tiny language model."""
    values = stage2(folder)
    source = {"name": "shards", "path": str(tiny_sprites.shard(folder / "shapes.tar"))}
    questions = {"name": "questions", "kinds": ["naming", "presence", "match"], "per_image": 2, "source": source}
    requests = {"name": "requests", "plain": 0.2, "source": values["data"]["mixture"][0]}
    data = {"image_size": 32, "max_tokens": 400, "mixture": [requests, questions]}
    language_model = values["condition"]["language_model"]
    return {
        **values,
        "stage": "unified",
        "data": data,
        "held_out": data,
        "condition": {
            "name": "unified",
            "language_model": language_model,
            "precision": "fp32",
            "width": 16,
            "system": None,
            **condition,
        },
    }


def train(steps: int = 4) -> dict[str, Any]:
    """A ``train`` block: every step is logged, every second one saved."""
    return {
        "steps": steps,
        "batch_size": 8,
        "precision": "fp32",
        "device": "cpu",
        "log_every_steps": 1,
        "save_every_steps": 2,
        "sample_every_steps": 1000,
    }


def resolve(values: dict[str, Any], **train_options: Any) -> Recipe:
    """A recipe mapping as the stage's frozen settings, ``train`` changed by the options."""
    merged = {**values, "train": {**values["train"], **train_options}}
    recipe: Recipe = validate(STAGES[values["stage"]].Config, merged, "recipe")
    return recipe
