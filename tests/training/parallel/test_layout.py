"""The rule that shards weights or does not."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.training.parallel.layout import SHARD_FROM, choose_layout, strategy_of


def test_a_billion_weights_are_sharded_and_fewer_are_not() -> None:
    small, large = (choose_layout(count, 16, 8) for count in (SHARD_FROM - 1, SHARD_FROM))
    assert (small.strategy, small.num_shards, small.num_replicas, small.is_sharded) == ("ddp", 1, 16, False)
    assert (large.strategy, large.num_shards, large.num_replicas, large.is_sharded) == ("fsdp", 16, 1, True)
    assert small.reason == "1.00 B trained weights: DDP below 1 B" and small.num_ranks == large.num_ranks == 16


def test_one_process_has_nobody_to_share_with() -> None:
    alone = choose_layout(10 * SHARD_FROM, 1, 8)
    assert (alone.strategy, alone.num_shards, alone.reason) == ("ddp", 1, "one process")


def test_what_was_asked_for_is_done() -> None:
    assert choose_layout(10, 4, 8, "fsdp").num_shards == 4
    mesh = choose_layout(10, 32, 8, "hsdp")
    assert (mesh.num_shards, mesh.num_replicas, mesh.num_ranks) == (8, 4, 32)
    with pytest.raises(UserError, match="hsdp needs whole groups, 12 processes do not fill groups of 8"):
        choose_layout(10, 12, 8, "hsdp")


def test_strategies_by_name() -> None:
    assert strategy_of("hsdp") == "hsdp"
    with pytest.raises(UserError, match="--strategy: 'fdsp' is not known; did you mean 'fsdp'"):
        strategy_of("fdsp")
