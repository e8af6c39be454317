"""How the weights of a run lie on its processes: whole on each, or in shards. The rule that chooses, in one place.

In: how many weights are trained, how many processes there are and how many of them share a node. Out: :class:`Layout`,
by which ``placement.py`` places modules and ``budget.py`` plans memory. Below about a billion trained weights each
process holds everything and only gradients travel (DDP); above that weights, gradients and moments are cut into as many
shards as there are processes (FSDP2), or as there are on a node, each node holding all of them (HSDP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from raekit.errors import UserError
from raekit.registry import nearest_hint

Strategy = Literal["auto", "ddp", "fsdp", "hsdp"]
"""As a recipe or ``--strategy`` says it."""
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

SHARD_FROM = 1_000_000_000
"""Trained weights from which a run is sharded unless its recipe says otherwise. At 22 bytes a weight (``memory.py``) a
billion of them take a quarter of an 80 GB GPU before the first activation."""


@dataclass(frozen=True)
class Layout:
    """Where weights lie.

    Attributes:
        strategy: ``ddp``, ``fsdp`` or ``hsdp``.
        num_shards: processes that a weight is cut among; 1 = each has all of it.
        num_replicas: groups of that many processes.
        reason: why, in words.
    """

    strategy: Literal["ddp", "fsdp", "hsdp"]
    num_shards: int
    num_replicas: int
    reason: str

    @property
    def num_ranks(self) -> int:
        """Processes in all."""
        return self.num_shards * self.num_replicas

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds less than everything."""
        return self.num_shards > 1


def choose_layout(num_trained: int, num_ranks: int, node_size: int, strategy: Strategy = "auto") -> Layout:
    """The layout of a run.

    Args:
        num_trained: weights that learn.
        num_ranks: processes.
        node_size: of them, those that share a node, or one copy under HSDP (``train.parallel.shard_size``).
        strategy: what was asked for; ``auto`` = by size.

    Raises:
        UserError: HSDP on processes that do not fill whole nodes, or groups of the asked size.
    """
    reason = "as asked for"
    if strategy == "auto":
        strategy = "fsdp" if num_trained >= SHARD_FROM and num_ranks > 1 else "ddp"
        word = "from" if num_trained >= SHARD_FROM else "below"
        reason = f"{num_trained / 1e9:.2f} B trained weights: {strategy.upper()} {word} {SHARD_FROM / 1e9:g} B"
        if num_ranks == 1:
            reason = "one process"
    if strategy == "ddp":
        return Layout("ddp", 1, num_ranks, reason)
    if strategy == "fsdp":
        return Layout("fsdp", num_ranks, 1, reason)
    if num_ranks % node_size:
        raise UserError(
            f"strategy: hsdp needs whole groups, {num_ranks} processes do not fill groups of {node_size} (those "
            "of a node, or train.parallel.shard_size)"
        )
    return Layout("hsdp", node_size, num_ranks // node_size, reason)


def strategy_of(word: str) -> Strategy:
    """A strategy by its name.

    Raises:
        UserError: there is no such one.
    """
    for known in STRATEGIES:
        if known == word:
            return known
    raise UserError(f"--strategy: {word!r} is not known; {nearest_hint(word, list(STRATEGIES))}")
