"""A tiny step of stage 2, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_recipes
from raekit.bench.stage2 import bench_stage2
from raekit.errors import UserError


def test_every_part_is_timed(tmp_path: Path) -> None:
    report = bench_stage2(tiny_recipes.resolve(tiny_recipes.stage2(tmp_path)), repeats=1)
    assert set(report.part_seconds) == {"encoder", "conditioner", "backbone", "optimisers", "loader"}
    assert min(report.part_seconds.values()) > 0 and report.call_flops > 0 and report.count == 8


def test_another_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of stage 'stage1'; bench stage2 takes one of stage2 or unified"):
        bench_stage2(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path)), repeats=1)
