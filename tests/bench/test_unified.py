"""A step of every unified recipe, taken apart at tiny sizes, with nothing here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tiny_encoders
import tiny_recipes
from raekit.autoencoder.base import load_autoencoder
from raekit.bench.stage2 import bench_stage2
from raekit.conditioning import language_shapes
from raekit.conditioning.language_shapes import LanguageShape
from raekit.config import validate
from raekit.training.planning import latent_outline
from raekit.training.recipe import load_recipe
from raekit.training.stage import TrainConfig

IS_UNIFIED = r"(?m)^(stage: unified|base: unified)"
RECIPES = sorted(path for path in Path("recipes").rglob("*.yaml") if re.search(IS_UNIFIED, path.read_text("utf-8")))
SMALL = LanguageShape("qwen2", 32, 2, 4, 2, 64, 400, True)


def tiny(path: Path, folder: Path) -> Any:
    """A published recipe with its mixture and everything that it trains, on networks of a few thousand weights."""
    recipe: Any = load_recipe(path)
    own = tiny_recipes.resolve(tiny_recipes.unified(folder))
    stated = load_autoencoder(own.latent_space).config
    condition = {"language_model": "owner/small", "width": 16, "precision": "fp32"}
    if recipe.condition.tower is not None:
        stated = recipe.autoencoder.model_copy(update={"input_size": 32})
        condition["tower"] = tiny_encoders.config("nano", tiny_encoders.save("nano", folder / "tower"))
    train = {**tiny_recipes.train(), "batch_size": 8, "micro_batch_size": 4}
    changes = {
        "latent_space": Path("not/here"),
        "autoencoder": stated,
        "backbone": own.backbone,
        "condition": recipe.condition.model_copy(update=condition),
        "train": validate(TrainConfig, train, "train"),
    }
    for part in ("data", "held_out"):
        changes[part] = getattr(recipe, part).model_copy(update={"image_size": 32})
    return recipe.model_copy(update=changes)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published networks at tiny sizes."""
    monkeypatch.setitem(language_shapes.SHAPES, "owner/small", SMALL)
    monkeypatch.setattr(latent_outline, "VAE_WIDTHS", (8, 8, 16, 16))
    monkeypatch.setitem(latent_outline.PUBLISHED_VAES["flux"], "norm_num_groups", 4)


def test_there_are_unified_recipes() -> None:
    assert len(RECIPES) >= 7


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_unified_recipe_is_taken_with_nothing_here(path: Path, tmp_path: Path) -> None:
    report = bench_stage2(tiny(path, tmp_path), 1, are_weights_random=True)
    assert report.unit == "conversation" and report.count == 8 and report.call_flops > 0
    asks_only = path.stem == "unified_understanding"
    assert ("backbone" in report.part_seconds) != asks_only and ("0 drawn" in report.name) == asks_only
    assert {"encoder", "language model", "optimisers", "loader"} <= set(report.part_seconds)
    assert min(report.part_seconds.values()) > 0
    # A question and its answer of 64 tokens each, and a caption of 64, without templates and pictures.
    assert report.tokens > 8 * 64 and report.tokens_per_second > 0


def test_a_recipe_whose_networks_are_here(tmp_path: Path) -> None:
    report = bench_stage2(tiny_recipes.resolve(tiny_recipes.unified(tmp_path)), 1)
    assert set(report.part_seconds) == {"encoder", "language model", "backbone", "optimisers", "loader"}
    assert "tokens/s" in dict(report.rows())
