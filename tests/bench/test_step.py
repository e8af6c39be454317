"""A bench is longer than no recipe, and says on what it ran."""

from __future__ import annotations

from pathlib import Path

import torch

import tiny_recipes
from raekit.bench.step import device_name, long_enough, matmul_speed


def test_a_bench_outlasts_a_short_recipe(tmp_path: Path) -> None:
    recipe = tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=1)
    assert recipe.model_copy(update=long_enough(recipe, repeats=5)).train.steps > 3 * 5


def test_the_device_and_its_speed_are_named() -> None:
    assert device_name(torch.device("cpu")) == "CPU"
    assert matmul_speed(torch.device("cpu"), "fp32") > 0
