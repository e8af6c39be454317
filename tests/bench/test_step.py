"""A bench is longer than no recipe, and says on what it ran."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_recipes
from raekit.bench.report import BenchReport
from raekit.bench.step import bench_step, device_name, long_enough, matmul_speed
from raekit.training.loop import Trainer


def test_a_bench_outlasts_a_short_recipe(tmp_path: Path) -> None:
    recipe = tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=1)
    assert recipe.model_copy(update=long_enough(recipe, repeats=5)).train.steps > 3 * 5


def test_encoding_ahead_is_counted_and_goes_on_from_step_to_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, prepared = tiny_recipes.stage1(tmp_path), []

    def report(is_ahead: bool, repeats: int) -> BenchReport:
        recipe = tiny_recipes.resolve({**values, "run": tmp_path / f"{is_ahead}"}, steps=100, encode_ahead=is_ahead)
        trainer = Trainer(recipe)
        prepare = trainer.stage.prepare
        monkeypatch.setattr(trainer.stage, "prepare", lambda batch: (prepared.append(is_ahead), prepare(batch))[1])
        return bench_step(trainer, "tiny", lambda _: {}, repeats)

    ahead, here = (report(is_ahead, 3) for is_ahead in (True, False))
    assert ahead.call_flops == here.call_flops > 0, "the frozen encoder is part of the step"
    # The first step, the counted one, the warm-up, three timed ones, and the parts; one more ahead of them.
    assert prepared.count(False) == 7 and prepared.count(True) <= 8


def test_the_device_and_its_speed_are_named() -> None:
    assert device_name(torch.device("cpu")) == "CPU"
    assert matmul_speed(torch.device("cpu"), "fp32") > 0
