"""What of a network is cut into shards, and what stays whole on every process; the counts that memory follows from.

In: a network, on the meta device if need be. Out: numbers in the largest piece that is gathered at a time, and in all
that is not cut. The rule itself is that of ``placement.py``, which does the cutting.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from raekit.training.blocks import holders_of
from raekit.training.parallel.placement import parts_to_cut
from raekit.training.planning.work import Work


def with_pieces(work: Work, module: nn.Module) -> Work:
    """The work of a network, with the sizes of its pieces filled in.

    Args:
        work: of the whole network.
        module: the network, or a shallow copy of it: blocks are alike.
    """
    sizes = [count(part) for holder in holders_of(module) for part in parts_to_cut(holder)]
    return replace(work, block=max(sizes, default=0), ends=count(module) - sum(sizes))


def count(module: nn.Module) -> int:
    """Numbers in its weights."""
    return sum(parameter.numel() for parameter in module.parameters())
