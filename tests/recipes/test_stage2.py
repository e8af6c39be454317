"""Recipes of stage 2: latent spaces of stage 1, published sizes, lengths and rates; no hub is asked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from raekit.backbones import BACKBONES
from raekit.errors import UserError
from raekit.training.optim import lr_factor
from raekit.training.planning import latent_outline, unified_plan
from raekit.training.planning.plan import count_backbone, outline_condition
from raekit.training.recipe import load_recipe
from raekit.training.stage1 import Stage1
from raekit.training.stage2 import Stage2
from raekit.training.unified import Unified

RECIPES = Path(__file__).parents[2] / "recipes"
FOLDER = RECIPES / "stage2"

COUNTS = {
    "imagenet256_dit_dh_xl": (837_227_476, 1_000_912),
    "imagenet256_dit_dh_l": (620_457_012, 100_091),
    "imagenet256_dit_dh_b": (293_330_260, 100_091),
    "imagenet256_dit_dh_s": (195_972_820, 100_091),
    "imagenet256_guide": (195_972_820, 17_516),
    "imagenet256_dit_xl": (675_800_064, 100_091),
    "imagenet256_dit_xl_dinov2_small": (674_914_944, 100_091),
    "imagenet512_dit_dh_xl": (837_227_476, 500_456),
    "one_gpu_imagenet256": (195_972_820, 100_091),
    "t2i_pretrain_0.5b": (480_742_688, 30_000),
    "t2i_pretrain_0.5b_dh": (760_296_352, 30_000),
    "t2i_pretrain_2.4b": (2_435_418_560, 30_000),
    "t2i_pretrain_2.4b_flux": (2_430_961_024, 30_000),
    "t2i_pretrain_3.1b": (3_081_427_584, 30_000),
    "t2i_pretrain_5.5b": (5_474_602_112, 30_000),
    "t2i_pretrain_9.8b": (9_727_708_928, 30_000),
    "t2i_finetune_2.4b": (2_435_418_560, 234),
    "t2i_finetune_2.4b_256_epochs": (2_435_418_560, 15_000),
    "t2i_finetune_2.4b_dit_only": (2_435_418_560, 234),
    "t2i_finetune_2.4b_flux": (2_430_961_024, 234),
    "unified_pretrain_2.4b": (2_435_418_560, 30_000),
    "unified_pretrain_2.4b_flux": (2_430_961_024, 30_000),
    "unified_understanding": (2_435_418_560, 30_000),
    "unified_finetune_2.4b": (2_435_418_560, 234),
    "unified_finetune_2.4b_dit_only": (2_435_418_560, 234),
    "raev2_t2i": (1_222_359_700, 200_000),
    "raev2_t2i_siglip2": (1_220_573_332, 200_000),
    "one_gpu_t2i": (293_330_260, 100_000),
}
"""Numbers that the backbone trains, and optimiser steps. finetune_lora.yaml is a change of a generator at hand, whose
backbone it takes over, and is tested with LoRA."""


@cache
def recipe(name: str) -> Stage2.Config:
    config = load_recipe(FOLDER / f"{name}.yaml")
    assert isinstance(config, Stage2.Config)
    return config


@cache
def latent_of(settings: str) -> latent_outline.Latent:
    """Recipes share few latent spaces, and to outline one takes a second."""
    config = next(
        r for name in COUNTS if (r := recipe(name)).autoencoder and r.autoencoder.model_dump_json() == settings
    )
    return latent_outline.outline(config.autoencoder)


def latent(config: Stage2.Config) -> latent_outline.Latent:
    assert config.autoencoder is not None, "explain needs it before the latent space is there"
    return latent_of(config.autoencoder.model_dump_json())


def test_every_recipe_is_pinned() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} - {"finetune_lora"} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_sizes_and_steps(name: str) -> None:
    config = recipe(name)
    shape = latent(config).shape
    conditioner = outline_condition(config, shape)
    assert (count_backbone(config.backbone, shape, conditioner.width), config.train.steps) == COUNTS[name]
    backbone: Any = config.backbone
    with torch.device("meta"):
        small = backbone.model_copy(update={"depth": 1, "early_block": None})
        built = BACKBONES.build(small, latent_shape=shape, cond_width=conditioner.width)
    built.condition(torch.zeros(1, conditioner.width, device="meta"), conditioner.null(1).to("meta"))


@pytest.mark.parametrize("name", COUNTS)
def test_a_recipe_says_what_it_costs_and_that_it_was_not_run(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    head = " ".join(line for line in lines if line.startswith("#"))
    assert f"raekit train recipes/stage2/{name}.yaml" in lines[0]
    for part in ("Hardware: ", "Expected: ", "Not run here"):
        assert part in head
    assert f"`raekit train recipes/stage2/{name}.yaml`" in (RECIPES.parent / "docs/reproducing.md").read_text()
    assert "@@" not in head and max(len(line) for line in lines[2:]) <= 130


@pytest.mark.parametrize("name", [name for name in COUNTS if "flux" not in name])
def test_the_latent_space_is_the_one_that_stage_1_exports(name: str) -> None:
    config = recipe(name)
    makers = [
        load_recipe(path) for path in (RECIPES / "stage1").glob("*.yaml") if path.stem in str(config.latent_space)
    ]
    maker = next(m for m in makers if m.run / "autoencoder" == config.latent_space)
    assert isinstance(maker, Stage1.Config) and config.autoencoder is not None
    runtime = {"encoder": {"precision", "compile"}}
    theirs, ours = (m.model_dump(mode="json", exclude=runtime) for m in (maker.autoencoder, config.autoencoder))
    assert theirs == ours, "encoder, decoder, noise, statistics and size"
    assert latent(config).shape == latent_outline.outline(maker.autoencoder).shape


@pytest.mark.parametrize("name", ["t2i_pretrain_2.4b", "t2i_finetune_2.4b"])
def test_twins_differ_by_the_latent_space_alone(name: str) -> None:
    ours, twin = recipe(name).model_dump(), recipe(f"{name}_flux").model_dump()
    different = {key for key in ours if ours[key] != twin[key]}
    assert different - {"init_generator"} == {"run", "latent_space", "autoencoder"}
    shapes = latent(recipe(name)).shape, latent(recipe(f"{name}_flux")).shape
    assert shapes == ((1152, 16, 16), (64, 16, 16)), "as many tokens"


def test_paper_a_holds_its_rate_for_40_epochs_and_ends_at_a_tenth_after_800() -> None:
    config = recipe("imagenet256_dit_dh_xl")
    factors = [
        lr_factor(round(epoch * 1281167 / 1024), config.optim.schedule, config.train.steps)
        for epoch in (0, 39, 420, 800)
    ]
    assert config.optim.lr == 2e-4 and factors == pytest.approx([1, 1, 0.55, 0.1], abs=1e-3)
    assert config.train.batch_size * config.train.steps == pytest.approx(800 * 1281167, rel=1e-5)


def test_paper_b_has_a_tenth_of_the_rate_for_the_language_model() -> None:
    for name, lr, batch in (("t2i_pretrain_2.4b", 5e-4, 2048), ("t2i_finetune_2.4b", 5.66e-4, 1024)):
        config = recipe(name)
        assert config.language_model_optim is not None and config.train.batch_size == batch
        assert (config.optim.lr, config.language_model_optim.lr) == (lr, pytest.approx(lr / 10))
        assert config.language_model_optim.betas == (0.9, 0.999)
        assert config.language_model_optim.schedule == config.optim.schedule
    schedule, steps = recipe("t2i_finetune_2.4b_256_epochs").optim.schedule, 15_000
    assert schedule.warmup_steps == pytest.approx(0.03 * steps, abs=1)
    alone = recipe("t2i_finetune_2.4b_dit_only")
    assert alone.frozen == ("language_model",) and alone.condition.are_queries_trained


def test_a_small_gpu_goes_through_the_same_batch_in_passes() -> None:
    large, small = recipe("imagenet256_dit_dh_s"), recipe("one_gpu_imagenet256")
    assert small.train.batch_size == large.train.batch_size == 16 * small.train.micro_batch
    assert (small.optim, small.backbone, small.condition) == (large.optim, large.backbone, large.condition)


def test_a_latent_space_of_another_shape_is_refused() -> None:
    config = recipe("imagenet256_dit_dh_xl")
    latent_outline.check_shape(config, (768, 16, 16))
    with pytest.raises(UserError, match="holds latents 384 x 16 x 16, the recipe's autoencoder makes 768 x 16 x 16"):
        latent_outline.check_shape(config, (384, 16, 16))


def test_unified_recipes_are_paper_bs() -> None:
    pretrain, finetune, alone = (
        recipe(f"unified_{name}") for name in ("pretrain_2.4b", "finetune_2.4b", "finetune_2.4b_dit_only")
    )
    assert isinstance(pretrain, Unified.Config) and isinstance(finetune, Unified.Config)
    assert pretrain.diffusion_weight == 2.0 and pretrain.condition.is_llm_trained
    assert [source.weight for source in pretrain.data.mixture] == [39.3, 24.7, 7.0]
    assert (pretrain.data.max_tokens, finetune.data.max_tokens, pretrain.data.max_images) == (512, 1024, 1)
    twin = recipe("t2i_pretrain_2.4b")
    for part in ("backbone", "transport", "optim", "language_model_optim", "train", "latent_space"):
        assert getattr(pretrain, part) == getattr(twin, part)
    assert finetune.init_generator == str(pretrain.run / "generator")
    assert alone.frozen == ("language_model", "projector")
    flux = recipe("unified_pretrain_2.4b_flux")
    rows = dict(Unified.describe(flux))
    assert "web 0.554, synthetic 0.348, instructions 0.0986" == rows["mixture"]
    assert unified_plan.vision_shape(flux) == (256, 1152), "seen through SigLIP-2, not drawn"
