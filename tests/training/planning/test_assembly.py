"""Whole networks without memory: nothing extrapolated, and the same counts as the plan's shallow copies give."""

from __future__ import annotations

from pathlib import Path

import pytest

from raekit.errors import UserError
from raekit.training.planning.assembly import assemble, describe_assembly, sizes
from raekit.training.planning.pieces import count
from raekit.training.recipe import load_recipe
from raekit.training.stage2 import Stage2

RECIPES = Path(__file__).parents[3] / "recipes"


def test_the_largest_recipe_is_built_in_little_memory() -> None:
    """DiT-9.8B with Qwen2.5-7B: 16.8 billion trained weights, 67 GB of them if they were there."""
    config = load_recipe(RECIPES / "stage2/t2i_pretrain_9.8b.yaml")
    modules = assemble(config)
    assert {parameter.device.type for module in modules.values() for parameter in module.parameters()} == {"meta"}
    planned = {part.name: part.work for part in Stage2.parts(config)}
    assert {name: count(module) for name, module in modules.items()} == {n: w.parameters for n, w in planned.items()}
    rows = dict(sizes(modules))
    assert rows["backbone"] == "9,727,708,928 weights in 395 tensors; 34 pieces to cut, the largest of 302,056,788"
    assert rows["language model"].startswith("7,070,619,136 weights in 338 tensors; 29 pieces to cut")
    assert planned["backbone"].block == 302_056_788 and planned["backbone"].ends == 11_547_776


def test_the_rows_end_with_what_it_took() -> None:
    rows = describe_assembly(load_recipe(RECIPES / "stage2/imagenet256_dit_dh_s.yaml"))
    assert [label for label, _ in rows] == ["backbone", "condition", "encoder", "built in"]
    assert "this process never held more than" in rows[-1][1]


def test_a_decoder_has_no_generator() -> None:
    with pytest.raises(UserError, match="--build: a recipe of stage stage1 has no generator to build"):
        assemble(load_recipe(RECIPES / "stage1/dinov2_base.yaml"))
