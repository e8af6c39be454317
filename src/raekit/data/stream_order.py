"""The order of a stream of shards: random, in long runs of the same shard, and found for any step at once.

In: the sample counts of the shards, a seed. Out: which sample comes at a step of an epoch, each exactly once.

Shards are put into a random order and dealt to *lanes*. In a lane they follow each other, and its samples are shuffled
within windows of ``buffer`` samples: what a shuffle buffer of that size does, but as a function of the step, so that
nothing has to be replayed to go on in the middle of a shard. The lanes take turns of ``run`` steps. Processes share
each micro-batch in equal slices; where ``lanes x run`` is the size of a micro-batch over all processes and the
processes divide the lanes, each process meets only the shards of its own lanes. With any other numbers the same samples
come at the same steps, and only the traffic is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class StreamOrder:
    """One epoch of a stream, as a sequence of sample indices.

    Args:
        counts: samples of each shard; sample indices go through the shards in this order.
        seed: any integers; other ones give another epoch.
        buffer: samples that are shuffled together.
        lanes: shards read side by side.
        run: steps in a row from the same lane.
        expect: told the numbers of the shards that will be needed soon; a hint.
    """

    def __init__(
        self,
        counts: Sequence[int],
        seed: Sequence[int],
        buffer: int,
        lanes: int = 1,
        run: int = 1,
        expect: Callable[[Iterable[int]], None] = lambda shards: None,
    ) -> None:
        sizes = np.asarray(counts, np.int64)
        self._firsts = np.concatenate([[0], np.cumsum(sizes)])
        self._seed, self._buffer, self._run, self._expect = list(seed), buffer, run, expect
        shuffled = np.random.default_rng(self._seed).permutation(len(sizes))
        self._shards = [shuffled[lane::lanes] for lane in range(lanes)]
        self._ends = [np.cumsum(sizes[shards]) for shards in self._shards]
        self._turns = Turns([int(ends[-1]) if len(ends) else 0 for ends in self._ends], run)
        # Two windows of each lane: threads may read on both sides of the end of one.
        self._window = lru_cache(maxsize=2 * lanes + 2)(self._permutation)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, step: int) -> int:
        """The sample at a step in ``[0, len)``."""
        lane, place = self._turns.locate(step)
        window, inside = divmod(place, self._buffer)
        place = window * self._buffer + int(self._window(lane, window)[inside])
        number = int(np.searchsorted(self._ends[lane], place, side="right"))
        begin = int(self._ends[lane][number - 1]) if number else 0
        return int(self._firsts[self._shards[lane][number]]) + place - begin

    def _permutation(self, lane: int, window: int) -> Numbers:
        self._expect(self._shards_of(lane, window))
        self._expect(self._shards_of(lane, window + 1))
        size = min(self._buffer, self._turns.sizes[lane] - window * self._buffer)
        return np.random.default_rng([*self._seed, lane, window]).permutation(size)

    def _shards_of(self, lane: int, window: int) -> list[int]:
        """The shards that a window's samples lie in."""
        begin = window * self._buffer
        if begin >= self._turns.sizes[lane]:
            return []
        last = min(begin + self._buffer, self._turns.sizes[lane]) - 1
        numbers = np.searchsorted(self._ends[lane], [begin, last], side="right")
        return [int(shard) for shard in self._shards[lane][numbers[0] : numbers[1] + 1]]


class Turns:
    """Lanes that take turns of ``run`` steps until each is through; their rests, less than a run each, come last.

    Args:
        sizes: samples of each lane.
        run: steps of a turn.
    """

    def __init__(self, sizes: Sequence[int], run: int) -> None:
        self.sizes, self.run = list(sizes), run
        self._full = np.asarray(sizes, np.int64) // run
        # Between two levels the same lanes take turns; `_before` counts the turns before each level.
        self._levels = np.unique(np.concatenate([[0], self._full]))
        self._before = np.array([np.minimum(self._full, level).sum() for level in self._levels])
        self._rests = np.cumsum(np.asarray(sizes, np.int64) - self._full * run)

    def locate(self, step: int) -> tuple[int, int]:
        """The lane at a step, and the place within the lane."""
        turn, inside = divmod(step, self.run)
        if turn >= self._before[-1]:
            return self._in_rests(step - int(self._before[-1]) * self.run)
        number = int(np.searchsorted(self._before, turn, side="right"))
        taking = np.flatnonzero(self._full >= self._levels[number])
        rounds, who = divmod(turn - int(self._before[number - 1]), len(taking))
        return int(taking[who]), (int(self._levels[number - 1]) + rounds) * self.run + inside

    def _in_rests(self, step: int) -> tuple[int, int]:
        lane = int(np.searchsorted(self._rests, step, side="right"))
        begin = int(self._rests[lane - 1]) if lane else 0
        return lane, int(self._full[lane]) * self.run + step - begin
