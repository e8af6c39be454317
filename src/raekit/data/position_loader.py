"""The endless sequence of positions in batches, cut alike for one process and for many, and read ahead.

In: a global batch size, this process's rank, and whatever reads some positions. Out: this process's part of each batch,
in order. Global batch k holds the positions ``[k B, (k+1) B)`` and rank r of W takes the r-th of W slices, so that the
number of GPUs changes who reads a sample but not which samples a step sees. The state is one integer, the next
position. What could not be used on the way is counted, written down, and the first few named in the log.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Generic, TypeVar

from raekit import distributed
from raekit.data.quarantine import Quarantine, Skipped
from raekit.data.readahead import in_order
from raekit.liveness import sign_of_life

K = TypeVar("K")
T = TypeVar("T")

_log = logging.getLogger(__name__)

NAMED_SKIPS = 5
"""What the log names one by one of all that cannot be used; after that it only counts."""


class PositionLoader(ABC, Generic[T]):
    """An iterator of batches; see the module's docstring.

    Args:
        batch_size: of the global batch.
        rank: of this process.
        world: number of processes; must divide ``batch_size``.
        start_position: first position.
        stop: position to stop at, with a last batch that may be smaller; endless by default.
        threads: that read; 0 = in the calling thread.
        prefetch: batches read ahead.

    Attributes:
        position: the next position that :func:`next` has not given yet.
        num_skipped: what could not be used and was replaced, on this rank since it was made.
        quarantine: where that is written down, if anywhere.
    """

    kind: ClassVar[str] = "samples"
    """What lies at the positions, in the words of the log."""
    size_field: ClassVar[str] = "batch_size"
    """What a user calls the batch size."""

    def __init__(
        self,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        start_position: int = 0,
        stop: int | None = None,
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        distributed.share_of(batch_size, world, self.size_field)
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.position, self.stop = start_position, stop
        self.threads, self.prefetch = threads, prefetch
        self.num_skipped = 0
        self.quarantine: Quarantine | None = None
        self._reported, self._named = 0, list[str]()

    @abstractmethod
    def read(self, positions: range) -> T:
        """What lies at some positions, this rank's of one batch; in any thread."""

    @abstractmethod
    def skipped_in(self, batch: T) -> Sequence[Skipped]:
        """What could not be used and was replaced in a batch."""

    def __iter__(self) -> Iterator[T]:
        for batch in self._ahead(self._read, self._starts()):
            self.position = self._end(self.position)
            self._report(self.skipped_in(batch))
            yield batch

    def at(self, places: Sequence[range]) -> Iterator[tuple[range, T]]:
        """Batches of the caller's own cutting, each with its positions."""
        for positions, batch in zip(places, self._ahead(self.read, places), strict=True):
            self.position = positions.stop
            self._report(self.skipped_in(batch))
            yield positions, batch

    def _ahead(self, read: Callable[[K], T], pieces: Iterable[K]) -> Iterator[T]:
        """Pieces in order, the next ones read while one is looked at."""
        return in_order(read, pieces, self.threads, self.prefetch) if self.threads else map(read, pieces)

    def _starts(self) -> Iterator[int]:
        """The first position of each global batch from here on."""
        start = self.position
        while self.stop is None or start < self.stop:
            yield start
            start = self._end(start)

    def _end(self, start: int) -> int:
        """Where the global batch that begins at ``start`` ends."""
        return start + self.batch_size if self.stop is None else min(start + self.batch_size, self.stop)

    def _read(self, start: int) -> T:
        """This rank's slice of the global batch that begins at ``start``."""
        size = self._end(start) - start
        return self.read(range(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world))

    def _report(self, skipped: Sequence[Skipped]) -> None:
        """A batch is there. Name the first few that cannot be used; then say how many whenever their number doubled."""
        sign_of_life()
        self.num_skipped += len(skipped)
        if self.quarantine is not None and skipped:
            self.quarantine.add(skipped)
        fresh = [reason for reason in dict.fromkeys(map(str, skipped)) if reason not in self._named]
        fresh = fresh[: NAMED_SKIPS - len(self._named)]
        if fresh or (skipped and self.num_skipped >= 2 * self._reported):
            self._named.extend(fresh)
            self._reported = self.num_skipped
            _log.warning(
                "%d unusable %s replaced by the next ones so far, at position %d%s",
                self.num_skipped, self.kind, self.position, "".join(f"\n  {reason}" for reason in fresh),
            )  # fmt: skip
