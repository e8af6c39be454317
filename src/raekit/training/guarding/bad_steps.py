"""How many steps in a row were bad, counted where they happen.

In: a flag per step, on the device. Out: the longest row of bad steps and where it began, as plain numbers, when
somebody asks; only then does the host wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """Bad steps in a row.

    Attributes:
        length: how many.
        first_step: the first of them, counted from 0; the weights then were those after ``first_step`` steps.
    """

    length: int
    first_step: int


class BadSteps:
    """A row of bad steps, and the longest one since it was last asked for.

    Args:
        device: where the flags lie.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._now = torch.zeros((), device=device)
        self._longest = self._now.clone()
        self._end = self._now.clone()
        self._step = 0

    def add(self, is_bad: Tensor, step: int) -> None:
        """Count step number ``step``: ``is_bad`` is 1.0 or 0.0."""
        self._now = (self._now + 1) * is_bad
        self._end = torch.where(self._now >= self._longest, step, self._end)
        self._longest = torch.maximum(self._longest, self._now)
        self._step = step

    @property
    def now(self) -> int:
        """Bad steps in a row up to now."""
        return int(self._now)

    @now.setter
    def now(self, count: int) -> None:
        self._now.fill_(count)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"bad_steps": self.now}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave.

        The row counts once it goes on: one that was over before it was read ends nothing any more.
        """
        self.now = state.get("bad_steps", 0)
        self._longest.zero_()

    def read(self) -> Row:
        """The longest row since the last reading, what of it came before that included."""
        length, end = (int(value) for value in torch.stack([self._longest, self._end]).tolist())
        self._longest = self._now.clone()
        self._end.fill_(self._step)
        return Row(length, end - length + 1)
