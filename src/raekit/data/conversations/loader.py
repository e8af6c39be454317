"""Micro-batches of conversations, read ahead by threads, in order.

In: a :class:`~raekit.data.conversations.dataset.ConversationData`. Out: lists of :class:`Talk`, without end. Which
positions are whose, and what becomes of conversations that cannot be used, says :mod:`raekit.data.position_loader`.
"""

from __future__ import annotations

from collections.abc import Sequence

from raekit.data.conversations.dataset import ConversationData, Talk
from raekit.data.position_loader import PositionLoader
from raekit.data.quarantine import Skipped


class ConversationLoader(PositionLoader[list[Talk]]):
    """An iterator of micro-batches; see the module's docstring.

    Args:
        data: what lies at each position.
        batch_size: of the global micro-batch.
        rank: of this process.
        world: number of processes; must divide ``batch_size``.
        start_position: first position.
        stop: position to stop at, with a last batch that may be smaller; endless by default.
    """

    kind, size_field = "conversations", "micro_batch_size"

    def __init__(
        self,
        data: ConversationData,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        start_position: int = 0,
        stop: int | None = None,
    ) -> None:
        super().__init__(batch_size, rank, world, start_position, stop)
        self.data = data

    def read(self, positions: range) -> list[Talk]:
        return [self.data[position] for position in positions]

    def skipped_in(self, batch: list[Talk]) -> Sequence[Skipped]:
        return [one for talk in batch for one in talk.skipped]
