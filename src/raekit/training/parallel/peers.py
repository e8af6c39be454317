"""The processes of a run as hosts: small plain values, agreements and errors that all of them share.

In: plain values of each process. Out: the same decision on every process. These talks go over the network between the
hosts and never touch an accelerator, so a thread may hold them while the devices train; whoever talks beside others
needs peers of its own, since every process must say the same things in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from raekit import distributed
from raekit.errors import UserError
from raekit.liveness import bounded_elsewhere

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """A circle of all processes; with a single process every method is trivial.

    Attributes:
        group: of the hosts; None for a single process.
    """

    group: dist.ProcessGroup | None = None

    @classmethod
    def meet(cls) -> Peers:
        """A new circle; all processes must call it together."""
        return cls(distributed.circle() if distributed.world() > 1 else None)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return 0 if self.group is None else dist.get_rank(self.group)

    @property
    def world(self) -> int:
        """Number of processes."""
        return 1 if self.group is None else dist.get_world_size(self.group)

    def gathered(self, value: T) -> list[T]:
        """Everybody's value, by rank, on every process."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.world
        with bounded_elsewhere():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def by_first(self, action: Callable[[], T]) -> T:
        """What ``action`` gives on the first process, on every process; the others do not run it.

        Raises:
            UserError: on every process, when the first one raised it.
        """
        return self.by_each(action if self.rank == 0 else lambda: None)[0]  # type: ignore[return-value]

    def by_each(self, action: Callable[[], T]) -> list[T]:
        """What ``action`` gives on each process, by rank.

        Raises:
            UserError: on every process, when any of them raised it: that of the lowest rank.
        """
        try:
            outcome: Any = action()
        except UserError as error:
            outcome = error
        outcomes = self.gathered(outcome)
        for found in outcomes:
            if isinstance(found, UserError):
                raise UserError(str(found))
        return outcomes

    def any_soon(self, flag: bool) -> Callable[[], bool]:
        """Start asking whether anybody's flag is set; the answer waits until everybody has asked."""
        if self.group is None:
            return lambda: flag
        votes = torch.tensor([int(flag)])
        work = dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.group, async_op=True)

        def answer() -> bool:
            work.wait()
            return bool(votes.item())

        return answer
