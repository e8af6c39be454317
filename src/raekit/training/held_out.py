"""Held-out samples dealt out over the processes: each looks at some batches, and all of them learn every result.

In: how many samples there are, in batches of how many. Out: this process's batches; then the results of all processes,
in the order of the samples. A batch holds the same samples whoever looks at it, so a figure has the very bits that one
process gives it, and no process waits while another one looks at everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from raekit import distributed

T = TypeVar("T")


def dealt(count: int, size: int, is_together: bool = False) -> list[range]:
    """The positions of this process's batches; like cards, one batch to each process in turn.

    Args:
        count: samples in all.
        size: of a batch; the last one may be smaller.
        is_together: networks are cut over the processes, which must run them equally often. Who has a batch less then
            looks at the last one too, and finds what its owner finds.
    """
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    rank, world = distributed.rank(), distributed.world()
    own = batches[rank::world]
    rounds = -(-len(batches) // world)
    return own + batches[-1:] * (rounds - len(own)) if is_together else own


def collected(found: Mapping[range, T]) -> list[T]:
    """What all processes found in their batches, in the order of the samples: plain values, or tensors of the host."""
    everything = {rows: value for part in distributed.gathered(dict(found)) for rows, value in part.items()}
    return [everything[rows] for rows in sorted(everything, key=lambda rows: rows.start)]
