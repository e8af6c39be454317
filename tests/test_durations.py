"""Durations: epochs become steps, and say what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_recipes
from raekit.durations import resolve_epochs
from raekit.errors import UserError


def test_epochs_become_steps_wherever_a_setting_ends_in_steps() -> None:
    recipe = {
        "train": {"steps": "16 epochs", "batch_size": 512, "images_per_epoch": 1_281_167},
        "optim": {"schedule": {"warmup_steps": "1 epoch"}},
        "note": "2 epochs",
    }
    resolved = resolve_epochs(recipe)
    assert resolved["train"]["steps"] == round(16 * 1_281_167 / 512) == 40036
    assert resolved["optim"]["schedule"]["warmup_steps"] == 2502
    assert resolved["note"] == "2 epochs"
    assert recipe["train"]["steps"] == "16 epochs"


def test_half_an_epoch() -> None:
    recipe = {"train": {"steps": "0.5 epochs", "batch_size": 10, "images_per_epoch": 100}}
    assert resolve_epochs(recipe)["train"]["steps"] == 5


def test_epochs_without_their_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train.steps: '3 epochs' needs train.images_per_epoch"):
        resolve_epochs({"train": {"steps": "3 epochs", "batch_size": 8}})


def test_a_recipe_in_epochs_is_a_recipe(tmp_path: Path) -> None:
    values = tiny_recipes.stage1(tmp_path)
    recipe = tiny_recipes.resolve(values, steps="3 epochs", images_per_epoch=16, batch_size=8)
    assert recipe.train.steps == 6
    with pytest.raises(UserError, match="images_per_epoch"):
        tiny_recipes.resolve(values, steps="3 epochs")
