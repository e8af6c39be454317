"""What the processes of a run send each other at every step, and how long it takes.

In: the weights that learn, passes of a step, how weights lie, the machine. Out: bytes that each process passes on, and
seconds at the speed of the links. Rings are assumed, where each of N processes passes on (N - 1) / N of the whole to
gather or to sum it in shards, and twice that to have the sum everywhere; latency is left out, so that many processes
with little to say each will be slower than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raekit.training.parallel.layout import Layout
from raekit.training.planning.machines import Machine
from raekit.training.planning.memory import is_bf16, is_synced_once, trained_weights
from raekit.training.planning.work import BF16, FP32, Part
from raekit.training.stage import TrainConfig


@dataclass(frozen=True)
class Traffic:
    """Of one process at one step.

    Attributes:
        gathered: bytes of weights, to have blocks in one piece, forward and backward in every pass.
        scattered: bytes of gradients, summed into shards.
        summed: bytes of gradients, summed over processes that hold the same shard.
        seconds: all of them, one after the other.
    """

    gathered: float
    scattered: float
    summed: float
    seconds: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.gathered + self.scattered + self.summed


def traffic(parts: Sequence[Part], train: TrainConfig, machine: Machine, layout: Layout) -> Traffic:
    """What a step sends: gradients as fp32, weights in the recipe's arithmetic, frozen ones as they lie."""
    passes = train.batch_size // train.micro_batch
    width = BF16 if is_bf16(train) else FP32
    trained = [part.work for part in parts if part.optim is not None]
    ends = sum(work.ends for work in trained) if layout.is_sharded else 0
    cut = trained_weights(parts) - ends if layout.is_sharded else 0
    share = (layout.num_shards - 1) / layout.num_shards
    gathered = passes * share * ((2 if train.parallel.is_resharded else 1) * cut * width + _frozen(parts, train))
    scattered = (1 if is_synced_once(parts, train) else passes) * share * cut * FP32
    seconds = (gathered + scattered) / machine.bandwidth(layout.num_shards)
    # Weights that all processes hold are summed over all of them, shards over the processes that hold the same one.
    everywhere = _ring(layout.num_ranks) * (trained_weights(parts) - cut) * FP32
    alike = _ring(layout.num_replicas) * cut / layout.num_shards * FP32
    seconds += everywhere / machine.bandwidth(layout.num_ranks) + alike / machine.bandwidth_between(layout.num_shards)
    return Traffic(gathered, scattered, everywhere + alike, seconds)


def _ring(num_ranks: int) -> float:
    """How often each process passes on a tensor for all to have its sum."""
    return 2 * (num_ranks - 1) / num_ranks


def _frozen(parts: Sequence[Part], train: TrainConfig) -> int:
    """Bytes of frozen weights that are gathered in a pass, where they are cut."""
    if train.parallel.frozen == "replicated":
        return 0
    return sum((p.work.parameters - p.work.ends) * p.weight_bytes for p in parts if p.optim is None and p.work.block)
