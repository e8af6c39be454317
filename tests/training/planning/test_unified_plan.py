"""What is said of a unified run before it begins; nothing is loaded for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_recipes
from raekit.conditioning.adapters import Adapters, AdaptersConfig
from raekit.data.conversations.files import Llava
from raekit.training.planning import plan, unified_plan
from raekit.training.recipe import load_recipe
from raekit.training.unified import Unified
from tiny_language_model import build_model

RECIPES = Path(__file__).parents[3] / "recipes"


def recipe(folder: Path, **condition: object) -> Unified.Config:
    config = tiny_recipes.resolve(tiny_recipes.unified(folder, **condition))
    assert isinstance(config, Unified.Config)
    return config


def test_adapters_are_counted_without_the_language_model(tmp_path: Path) -> None:
    config = recipe(tmp_path, lora={"rank": 3})
    real = Adapters(AdaptersConfig(rank=3), build_model().get_decoder())
    assert plan.count_adapters(config) == sum(parameter.numel() for parameter in real.parameters())
    parts = {part.name: part for part in unified_plan.parts(config)}
    assert parts["adapters"].optim == "adamw" and parts["language model"].optim is None
    assert plan.count_adapters(recipe(tmp_path)) == 0


def test_where_nothing_is_drawn_the_backbone_rests(tmp_path: Path) -> None:
    both = recipe(tmp_path)
    questions = both.data.model_copy(update={"mixture": both.data.mixture[1:]})
    asked = both.model_copy(update={"data": questions})
    assert unified_plan.draws(both) and not unified_plan.draws(asked)
    rest, work = ({part.name: part.work for part in unified_plan.parts(config)}["backbone"] for config in (asked, both))
    assert (rest.parameters, rest.training, rest.activations) == (work.parameters, 0, 0) and work.training > 0
    assert dict(unified_plan.describe(asked))["pictures"] == "taken to be shown, none to be drawn"


def test_conversations_in_files_are_taken_to_draw_unless_the_backbone_is_frozen(tmp_path: Path) -> None:
    both = recipe(tmp_path)
    told = both.data.model_copy(update={"mixture": (Llava.Config(path=tmp_path / "talks.jsonl"),)})
    config = both.model_copy(update={"data": told})
    assert unified_plan.draws(config)
    assert not unified_plan.draws(config.model_copy(update={"frozen": ("backbone", "queries")}))


def test_a_tower_is_at_work_where_pictures_are_shown() -> None:
    config = load_recipe(RECIPES / "stage2/unified_pretrain_2.4b_flux.yaml")
    assert isinstance(config, Unified.Config)
    tower = next(part for part in unified_plan.parts(config) if part.name == "tower")
    encoder = next(part for part in load_recipe(RECIPES / "stage2/unified_pretrain_2.4b.yaml").parts()[-1:])
    assert encoder.name == "encoder" and tower.optim is None
    assert tower.work.parameters == encoder.work.parameters, "SigLIP-2 So400m in either"
    assert tower.work.forward == pytest.approx(7 / 71 * encoder.work.forward), "7 of 71 conversations are no requests"


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
