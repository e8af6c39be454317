"""Half of everything lies on each of two processes when it is cut, and all of it when it is not."""

from __future__ import annotations

import pytest
import torch

import two_ranks
from raekit import distributed
from raekit.bench.parallel import bench_parallel
from raekit.training.parallel.placement import ParallelConfig

CPU = torch.device("cpu")


def measure() -> None:
    distributed.join(CPU)
    whole, cut = (bench_parallel(64, 8, ParallelConfig(strategy=s), CPU, repeats=1) for s in ("ddp", "fsdp"))
    assert (whole.world, cut.strategy, whole.parameters) == (2, "fsdp", cut.parameters)
    for kind, size in whole.held_bytes.items():
        assert 0.5 < cut.held_bytes[kind] / size < 0.6, kind  # the ends of the network stay whole


def test_two_processes_hold_about_half_each_when_weights_are_cut() -> None:
    two_ranks.run(measure)


def test_a_process_alone_holds_twenty_bytes_a_weight() -> None:
    report = bench_parallel(64, 2, ParallelConfig(), CPU, images=2, repeats=1)
    assert sum(report.held_bytes.values()) == pytest.approx(20 * report.parameters, rel=1e-2)
    assert report.step_seconds > 0 and dict(report.rows())["weights"].endswith("ddp on 1 processes")
