"""How many steps in a row were not finite, counted where they happen.

In: a flag per step, on the device. Out: the count, as plain numbers, when somebody asks; only then does the host wait.
"""

from __future__ import annotations

import torch
from torch import Tensor


class BadSteps:
    """A run of bad steps, and the longest one since it was last asked for.

    Args:
        device: where the flags lie.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._now = torch.zeros((), device=device)
        self._longest = self._now.clone()

    def add(self, is_bad: Tensor) -> None:
        """Count a step: ``is_bad`` is 1.0 or 0.0."""
        self._now = (self._now + 1) * is_bad
        self._longest = torch.maximum(self._longest, self._now)

    @property
    def now(self) -> int:
        """Bad steps in a row up to now."""
        return int(self._now)

    @now.setter
    def now(self, count: int) -> None:
        self._now.fill_(count)

    def read(self) -> int:
        """The most bad steps in a row since the last reading, what then came before it included."""
        longest = int(self._longest)
        self._longest = self._now.clone()
        return longest
