"""What a log line says: means of the terms since the last one, speed, and how long who waited for data.

In: the terms of each step, as tensors that stay on their device. Out: plain numbers, read once per log line, so that
logging makes the device wait only then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from raekit import distributed

T = TypeVar("T")


class Meter:
    """Sums of the terms since the last log line, and the clocks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._images = 0
        self._waited: dict[str, float] = {}
        self._longest = 0.0
        self._start = time.perf_counter()

    def add(self, terms: Mapping[str, Tensor], images: int) -> None:
        """Count one optimiser step; a term need not be there at every step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
            self._counts[name] = self._counts.get(name, 0) + 1
        self._images += images

    def waiting(self, batches: Iterator[T], clock: str = "data_wait") -> Iterator[T]:
        """The same batches; the time until each one came is counted as waiting.

        Args:
            batches: closed with the iterator that is returned.
            clock: what :meth:`read` calls the share of the time; each clock is used from one thread.
        """
        try:
            while True:
                start = time.perf_counter()
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                waited = time.perf_counter() - start
                self._waited[clock] = self._waited.get(clock, 0.0) + waited
                self._longest = max(self._longest, waited)
                yield batch
        finally:
            if hasattr(batches, "close"):
                batches.close()

    def pause(self) -> None:
        """Leave the time since the last log line out of the speed (evaluation, sheets)."""
        self._start, self._images, self._longest = time.perf_counter(), 0, 0.0
        self._waited = dict.fromkeys(self._waited, 0.0)

    def read(self) -> dict[str, float]:
        """Mean of each term over the steps that had it and over the processes; speed; then start anew.

        ``data_wait`` is the share of the time in which the loop had nothing to work on: pictures were read or encoded.
        ``read_wait`` is the share in which whoever encodes them waited for the loader alone; where both are near 0, the
        data keeps up. ``longest_wait_seconds`` is the longest of these waits.
        """
        means = {name: value / self._counts[name] for name, value in sorted(self._sums.items())}
        distributed.average(means.values())
        values = {name: float(value) for name, value in means.items()}
        seconds = max(time.perf_counter() - self._start, 1e-9)
        if self._images:
            values["images_per_second"] = self._images / seconds
            values |= {clock: min(waited / seconds, 1.0) for clock, waited in self._waited.items()}
            values["longest_wait_seconds"] = self._longest
        self._sums, self._counts = {}, {}
        self.pause()
        return values
