"""Recipes are timed with nothing here: random networks of the sizes that they state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_recipes
from raekit.autoencoder.base import load_autoencoder
from raekit.bench.sample import bench_sample, random_generator
from raekit.bench.stage2 import bench_stage2
from raekit.bench.stand_ins import CAPTION_TOKENS, stand_ins
from raekit.conditioning import language_shapes
from raekit.conditioning.language_shapes import LanguageShape
from raekit.errors import UserError
from raekit.training.stage import Recipe

SMALL = LanguageShape("qwen2", 32, 2, 4, 2, 64, 400, True)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Stage 2 on a latent space and a language model that are not here."""
    monkeypatch.setitem(language_shapes.SHAPES, "owner/small", SMALL)
    values = tiny_recipes.stage2(tmp_path, language_model="owner/small", template="chatml")
    here = load_autoencoder(values["latent_space"])
    stated = here.config.model_dump(mode="json")
    return tiny_recipes.resolve({**values, "latent_space": "not/here", "autoencoder": stated})


def test_a_step_is_timed_with_nothing_here(recipe: Recipe) -> None:
    report = bench_stage2(recipe, 1, are_weights_random=True)
    assert report.count == 8 and report.call_flops > 0 and report.part_seconds["backbone"] > 0


def test_drawing_is_timed_with_nothing_here(recipe: Recipe) -> None:
    report = bench_sample(random_generator(recipe, "cpu"), ["sun"], 2, 2.0, repeats=1)
    assert report.count == 1 and report.part_seconds["sampler"] > 0


def test_stand_ins_have_the_sizes_of_the_recipe(recipe: Any) -> None:
    with stand_ins(recipe) as standing:
        assert load_autoencoder(standing.latent_space).shape == (32, 4, 4)
        from raekit.conditioning.language_model import load_language_model

        model, tokenizer = load_language_model(standing.condition.language_model, torch.float32)
        assert model.config.hidden_size == SMALL.width and len(tokenizer) == SMALL.num_words
        assert len(tokenizer("<|im_start|>user" + "x" * CAPTION_TOKENS).input_ids) == 1 + 4 + CAPTION_TOKENS
        folder = standing.latent_space
    assert not folder.exists()


def test_what_has_no_stand_in(recipe: Any, tmp_path: Path) -> None:
    unknown = recipe.condition.model_copy(update={"language_model": "owner/unknown"})
    with pytest.raises(UserError, match="condition.language_model: the sizes of 'owner/unknown' are not known"):
        bench_stage2(recipe.model_copy(update={"condition": unknown}), 1, are_weights_random=True)
    with pytest.raises(UserError, match="autoencoder: random weights are made of an RAE that the recipe states"):
        bench_stage2(recipe.model_copy(update={"autoencoder": None}), 1, are_weights_random=True)
    with pytest.raises(UserError, match="recipe: of stage 'stage1'; bench stage2 takes one of stage2 or unified"):
        bench_stage2(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path / "decoder")), 1)
