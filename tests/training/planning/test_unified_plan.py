"""What is said of a unified run before it begins; nothing is loaded for it."""

from __future__ import annotations

from pathlib import Path

import tiny_recipes
from raekit.multimodal.adapters import Adapters, AdaptersConfig
from raekit.training.planning import unified_plan
from raekit.training.unified import Unified
from tiny_language_model import build_model


def recipe(folder: Path, **condition: object) -> Unified.Config:
    config = tiny_recipes.resolve(tiny_recipes.unified(folder, **condition))
    assert isinstance(config, Unified.Config)
    return config


def test_adapters_are_counted_without_the_language_model(tmp_path: Path) -> None:
    config = recipe(tmp_path, lora={"rank": 3})
    real = Adapters(AdaptersConfig(rank=3), build_model().get_decoder())
    assert unified_plan.count_adapters(config) == sum(parameter.numel() for parameter in real.parameters())
    parts = {part.name: part for part in unified_plan.parts(config)}
    assert parts["adapters"].optim == "adamw" and parts["language model"].optim is None
    assert unified_plan.count_adapters(recipe(tmp_path)) == 0


def test_what_the_language_model_learns(tmp_path: Path) -> None:
    def way(**condition: object) -> str:
        return dict(unified_plan.describe(recipe(tmp_path, **condition)))["language model learns"]

    assert way(is_llm_trained=True) == "whole"
    assert way() == "not; it is frozen"
    assert "numbers of adapters of rank 3 beside it" in way(lora={"rank": 3})


def test_what_it_sees_is_what_it_draws(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    assert unified_plan.vision_shape(config) == (16, 32)
    assert unified_plan.outlined(config).condition.vision_shape == (16, 32)
