"""Sixteen bytes a weight, and less waiting where the writing is done by another thread."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raekit.backbones.dit import DiT
from raekit.bench.saving import bench_saving
from raekit.training.saving import checkpoint_files


def test_a_loop_waits_for_the_copy_alone_when_it_is_written_in_the_background(tmp_path: Path) -> None:
    at_once, behind = bench_saving(64, 2, tmp_path, torch.device("cpu"), repeats=1)
    weights = DiT(DiT.Config(size="nano", width=64, depth=2, heads=1), (16, 4, 4), 64).parameters()
    assert at_once.num_bytes == behind.num_bytes == 4 * checkpoint_files.size_in_bytes(weights)
    assert at_once.held_up_seconds == pytest.approx(at_once.whole_seconds, rel=0.5)
    assert behind.held_up_seconds < behind.whole_seconds
    assert 0 < behind.busy_seconds < at_once.busy_seconds
    assert dict(behind.rows())["checkpoint"].endswith("GB") and not list(tmp_path.iterdir())
