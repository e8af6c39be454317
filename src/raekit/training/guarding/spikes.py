"""What a loss and a gradient norm usually are, and whether the one at hand is far beyond that.

In: a few watched values of every step, as tensors on their device. Out: a flag on that device. The usual is the median
of the last accepted steps, and the measure of distance their median absolute deviation, which no single step can move:
a spike does not become the usual, and since steps with one are not taken, it does not enter the window either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

GAUSSIAN = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""


class Limit(NamedTuple):
    """How far above the median a value may be.

    Attributes:
        deviations: robust standard deviations; None = as far as it likes.
        share: of the median; what is nearer than this is never a spike, however quiet the window was.
    """

    deviations: float | None
    share: float = 0.0


class Window:
    """The watched values of the last accepted steps.

    Nothing is judged before the window is half full, nor where all its values are the same.

    Args:
        limits: by name of the watched value; their order is that of the rows of every tensor here.
        size: steps remembered.
        device: where the values lie.
    """

    def __init__(self, limits: Mapping[str, Limit], size: int, device: torch.device | str) -> None:
        self.names = tuple(limits)
        deviations = [limit.deviations or 0.0 for limit in limits.values()]
        self._deviations = torch.tensor(deviations, device=device)
        self._is_limited = self._deviations > 0
        self._shares = torch.tensor([limit.share for limit in limits.values()], device=device)
        self._places = torch.arange(size, device=device)
        self._values = torch.full((len(limits), size), torch.inf, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def is_spike(self, values: Tensor) -> Tensor:
        """Whether any of ``values [V]`` is beyond its limit; a boolean ``[]``, without asking the device."""
        median = self._median(self._values)
        scale = GAUSSIAN * self._median((self._values - median[:, None]).abs())
        margin = torch.maximum(self._deviations * scale, self._shares * median.abs())
        is_judged = self._is_limited & (scale > 0) & (self._count >= len(self._places) // 2)
        return (is_judged & (values > median + margin)).any()

    def add(self, values: Tensor, is_accepted: Tensor) -> None:
        """Remember ``values [V]`` in place of the oldest, where the boolean ``is_accepted []`` says so."""
        is_place = (self._places == self._count % len(self._places)) & is_accepted
        self._values = torch.where(is_place, values[:, None], self._values)
        self._count = self._count + is_accepted

    def forget(self) -> None:
        """Start anew: from here on the values mean something else."""
        self._values.fill_(torch.inf)
        self._count.zero_()

    def usual(self) -> dict[str, float]:
        """The median of each value; infinite before the first accepted step. Asks the device."""
        return dict(zip(self.names, self._median(self._values).tolist(), strict=True))

    def state(self) -> dict[str, list[float]]:
        """The remembered values by name, oldest first."""
        count, size = int(self._count), len(self._places)
        rows = self._values.roll(-(count % size) if count > size else 0, dims=1)[:, : min(count, size)]
        return dict(zip(self.names, rows.tolist(), strict=True))

    def load_state(self, state: Mapping[str, Sequence[float]]) -> None:
        """Restore what :meth:`state` gave, or its newest part; another set of names starts anew."""
        self.forget()
        if set(state) != set(self.names):
            return
        rows: list[Any] = [list(state[name])[-len(self._places) :] for name in self.names]
        kept = torch.tensor(rows, device=self._values.device)
        self._values[:, : kept.shape[1]] = kept
        self._count.fill_(kept.shape[1])

    def _median(self, values: Tensor) -> Tensor:
        """The lower median of each row's finite part: places not yet filled lie at infinity."""
        middle = ((self._count.clamp(max=len(self._places)) - 1) // 2).clamp(min=0)
        return values.sort(dim=1).values.gather(1, middle.expand(len(values), 1)).squeeze(1)
