"""Short measurements of the machine at hand."""

from __future__ import annotations

import torch.distributed as dist

from raekit.bench.machine import collective_works, loader_speed


def test_pictures_are_read() -> None:
    assert loader_speed(threads=1, num_pictures=8) > 1


def test_gloo_sums_and_leaves_nothing_behind() -> None:
    assert collective_works("gloo") and not dist.is_initialized()
    assert not collective_works("no such backend")
