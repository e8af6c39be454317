"""The blocks of a transformer one by one: compiled, or with their activations computed twice.

In: a module. Out: the same module, the ``forward`` of each block wrapped. Names of weights stay as they are. A stack of
equal blocks is compiled once, not once a block, and what lies between blocks stays ordinary Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from raekit.training.planning.work import Checkpointing


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The members of every outermost ``nn.ModuleList``: the blocks of ours, the layers of a language model."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks_of(child)


def holders_of(module: nn.Module) -> Iterator[nn.Module]:
    """The networks in a module that hold lists of blocks: those that are called whole, block after block."""
    children = list(module.children())
    if any(isinstance(child, nn.ModuleList) for child in children):
        yield module
        return
    for child in children:
        yield from holders_of(child)


def wrap(blocks: Iterable[nn.Module], is_compiled: bool, checkpointing: Checkpointing = "none") -> None:
    """Compile blocks, or let them keep nothing but their input for the way back, or both.

    Args:
        blocks: changed in place.
        is_compiled: with ``torch.compile``.
        checkpointing: which of them are computed again: none, every second one (``selective``), all (``full``). Blocks
            draw no random numbers, so no generator is rewound.
    """
    for number, block in enumerate(blocks):
        forward = block.forward
        if is_compiled:
            forward = torch.compile(forward)
        if checkpointing == "full" or (checkpointing == "selective" and number % 2 == 0):
            forward = partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = forward
