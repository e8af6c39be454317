"""Positions in batches, whatever lies at them; ``test_loader.py`` reads pictures so, and ``conversations/`` talk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from raekit.data.position_loader import NAMED_SKIPS, PositionLoader
from raekit.data.quarantine import Quarantine, Skipped
from raekit.errors import UserError


class Positions(PositionLoader[range]):
    """Batches that are their positions; every tenth was not the first choice."""

    kind, size_field = "numbers", "how_many"

    def read(self, positions: range) -> range:
        return positions

    def skipped_in(self, batch: range) -> Sequence[Skipped]:
        return [Skipped("numbers", str(number), f"number {number}") for number in batch if number % 10 == 0]


@pytest.mark.parametrize("threads", [0, 2])
def test_processes_share_each_batch_in_order(threads: int) -> None:
    whole = list(islice(Positions(6, start_position=4, threads=threads), 3))
    assert whole == [range(4, 10), range(10, 16), range(16, 22)]
    parts = [list(islice(Positions(6, rank, 3, 4, threads=threads), 3)) for rank in range(3)]
    assert [[n for part in parts for n in part[k]] for k in range(3)] == [list(batch) for batch in whole]


def test_the_last_batch_may_be_smaller_and_even_empty_for_a_process() -> None:
    assert list(Positions(4, stop=6)) == [range(4), range(4, 6)]
    assert [len(batch) for batch in Positions(4, rank=0, world=4, stop=5)] == [1, 0]


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_of_ones_own_cutting(threads: int) -> None:
    loader, places = Positions(4, threads=threads), [range(8, 11), range(2, 3), range(2, 3)]
    assert list(loader.at(places)) == [(place, place) for place in places]
    assert list(loader.at([])) == [] and loader.num_skipped == 1 and loader.position == 3


def test_the_position_is_what_was_given_and_not_what_was_read_ahead() -> None:
    loader = Positions(3, threads=1, prefetch=5)
    batches = iter(loader)
    next(batches)
    assert loader.position == 3
    batches.close()
    assert next(iter(loader)) == range(3, 6)


def test_what_cannot_be_used_is_counted_written_down_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loader = Positions(10)
    loader.quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    with caplog.at_level(logging.WARNING):
        list(islice(loader, 25))
    assert loader.num_skipped == 25 and loader.quarantine.counts() == {"numbers": 25}
    assert caplog.messages[0] == "1 unusable numbers replaced by the next ones so far, at position 10\n  number 0"
    assert [record.args[0] for record in caplog.records] == [*range(1, NAMED_SKIPS + 1), 10, 20]


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    for size, world in ((5, 2), (0, 1)):
        with pytest.raises(UserError, match=f"how_many: {size} samples cannot be shared evenly by {world} processes"):
            Positions(size, world=world)
