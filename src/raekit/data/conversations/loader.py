"""Micro-batches of conversations, read ahead by threads, cut alike for one process and for many.

In: a :class:`~raekit.data.conversations.dataset.ConversationData`. Out: lists of :class:`Talk`, in order, without end.
As everywhere, global batch k holds the positions ``[k B, (k+1) B)``, and rank r of W takes the r-th of W slices.
What was passed over is counted; the first few are named in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from raekit.data.conversations.dataset import ConversationData, Talk
from raekit.data.loader import NAMED_SKIPS
from raekit.data.readahead import in_order
from raekit.errors import UserError

_log = logging.getLogger(__name__)

THREADS, PREFETCH = 2, 4


class ConversationLoader:
    """An iterator of micro-batches; see the module's docstring.

    Args:
        data: what lies at each position.
        batch_size: of the global micro-batch.
        rank: of this process.
        world: number of processes; must divide ``batch_size``.
        start_position: first position.
        stop: position to stop at, with a last batch that may be smaller; endless by default.

    Attributes:
        num_skipped: conversations passed over on this rank since it was made.
    """

    def __init__(
        self,
        data: ConversationData,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        start_position: int = 0,
        stop: int | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise UserError(f"micro_batch_size {batch_size}: must be a positive multiple of the {world} processes")
        self.data, self.batch_size, self.rank, self.world = data, batch_size, rank, world
        self.start_position, self.stop = start_position, stop
        self.num_skipped = 0
        self._reported, self._named = 0, list[str]()

    def __iter__(self) -> Iterator[list[Talk]]:
        for talks in in_order(self._read, self._starts(), THREADS, PREFETCH):
            self._report(talks)
            yield talks

    def _starts(self) -> Iterator[int]:
        start = self.start_position
        while self.stop is None or start < self.stop:
            yield start
            start += self.batch_size

    def _read(self, start: int) -> list[Talk]:
        """This rank's slice of the micro-batch that begins at ``start``."""
        size = self.batch_size if self.stop is None else min(self.batch_size, self.stop - start)
        mine = range(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world)
        return [self.data[position] for position in mine]

    def _report(self, talks: list[Talk]) -> None:
        """Name the first few conversations passed over; then say how many each time their number has doubled."""
        skipped = [reason for talk in talks for reason in talk.skipped]
        self.num_skipped += len(skipped)
        fresh = [reason for reason in dict.fromkeys(skipped) if reason not in self._named]
        fresh = fresh[: NAMED_SKIPS - len(self._named)]
        if fresh or (skipped and self.num_skipped >= 2 * self._reported):
            self._named.extend(fresh)
            self._reported = self.num_skipped
            reasons = "".join(f"\n  {reason}" for reason in fresh)
            _log.warning("conversations passed over for the next ones, %d so far%s", self.num_skipped, reasons)
