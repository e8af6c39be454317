"""Micro-batches of conversations: in order, cut alike for any number of processes; what was left out."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raekit.data.conversations.loader import ConversationLoader
from raekit.data.quarantine import Quarantine, Skipped
from raekit.errors import UserError


class Numbers:
    """Conversations that are their position; every third was not the first choice."""

    def __getitem__(self, position: int) -> Any:
        skipped = (Skipped("numbers", str(position), f"number {position}"),) if position % 3 == 0 else ()
        return SimpleNamespace(position=position, skipped=skipped)


def positions(loader: ConversationLoader, count: int) -> list[list[int]]:
    return [[talk.position for talk in talks] for talks in islice(loader, count)]


def test_batches_come_in_order_from_any_position() -> None:
    assert positions(ConversationLoader(Numbers(), 4), 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert positions(ConversationLoader(Numbers(), 4, start_position=6), 2) == [[6, 7, 8, 9], [10, 11, 12, 13]]
    assert positions(ConversationLoader(Numbers(), 4, stop=6), 9) == [[0, 1, 2, 3], [4, 5]]


def test_processes_share_a_batch() -> None:
    parts = [positions(ConversationLoader(Numbers(), 4, rank, world=2), 2) for rank in (0, 1)]
    assert parts == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    with pytest.raises(UserError, match="micro_batch_size: 3 samples cannot be shared evenly by 2 processes"):
        ConversationLoader(Numbers(), 3, world=2)


def test_what_was_passed_over_is_counted_and_the_first_few_are_named(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    loader = ConversationLoader(Numbers(), 6)
    loader.quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    with caplog.at_level(logging.WARNING):
        list(islice(loader, 20))
    assert loader.num_skipped == 40 and loader.quarantine.counts() == {"numbers": 40}
    named = [line for message in caplog.messages for line in message.splitlines()[1:]]
    assert named == [f"  number {position}" for position in range(0, 15, 3)]
    assert len(caplog.messages) < 9
