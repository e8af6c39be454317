"""A tiny step, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_recipes
from raekit.bench.stage1 import bench_stage1
from raekit.errors import UserError

ADVERSARY = {"discriminator": {"name": "features", "backbone": "encoder", "kernel_size": 3}, "start_steps": 1000}


def test_every_part_is_timed_and_late_terms_are_at_work(tmp_path: Path) -> None:
    recipe = tiny_recipes.resolve({**tiny_recipes.stage1(tmp_path), "adversary": ADVERSARY})
    report = bench_stage1(recipe, repeats=1)
    parts = {"encoder", "decoder", "perceptual", "discriminator", "optimisers", "loader"}
    assert set(report.part_seconds) == parts and min(report.part_seconds.values()) > 0
    assert report.count == 8 and report.call_seconds > report.part_seconds["decoder"]
    assert report.call_flops > 0 and report.peak_bytes > 0
    assert not (tmp_path / "run").exists()


def test_without_an_adversary_there_is_no_such_part(tmp_path: Path) -> None:
    report = bench_stage1(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path)), repeats=1)
    assert "discriminator" not in report.part_seconds


def test_another_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of stage 'encoder'; bench stage1 takes one of stage1"):
        bench_stage1(tiny_recipes.resolve(tiny_recipes.encoder(tmp_path)), repeats=1)
