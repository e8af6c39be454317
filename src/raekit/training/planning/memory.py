"""What one process of a run holds in memory, part by part, and what has to be given up for it to fit.

In: the networks of a step with their work, the settings of the run, how its weights lie. Out: bytes of each part:
weights, gradients, moments, averages, whatever is gathered for a moment, and activations, of one picture. Plain sums,
checked against a run in ``tests/end_to_end/test_plan.py``.

Weights, gradients and averages are fp32 throughout; what is trained in bf16 has a bf16 copy through a step. Of a
sharded network two blocks are gathered at a time, the one at work and the next, and the gradient of one, in bf16 and in
the fp32 that is summed; its ends (small tables, first and last layer) lie whole on every process. Where gradients of
several micro-batches meet once a step, each process keeps them whole until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raekit.training.parallel.layout import Layout
from raekit.training.parallel.placement import SYNCED_ONCE_BELOW
from raekit.training.planning.machines import Arithmetic
from raekit.training.planning.work import BF16, FP32, Checkpointing, Part, Work
from raekit.training.stage import TrainConfig

MOMENTS = {"adamw": 8, "muon": 4}
"""Bytes that an optimiser keeps for a weight; Muon's are of its matrices, and nearly all weights are in matrices."""
MODES: tuple[Checkpointing, ...] = ("none", "selective", "full")
"""From fastest to smallest."""


@dataclass(frozen=True)
class Share:
    """Bytes that one process holds of one network.

    Attributes:
        name: of the network.
        weights: as they lie.
        gradients: of its own weights.
        moments: of the optimiser.
        averages: moving averages of the weights.
        gathered: copies that live through a step or a block: weights in bf16, blocks in one piece.
        activations: of one picture, from the forward to the backward pass.
    """

    name: str
    weights: int
    gradients: int = 0
    moments: int = 0
    averages: int = 0
    gathered: int = 0
    activations: int = 0

    @property
    def fixed(self) -> int:
        """All that does not depend on the batch."""
        return self.weights + self.gradients + self.moments + self.averages + self.gathered


def is_bf16(train: TrainConfig) -> bool:
    """Whether matrix products are bf16; ``auto`` is on every GPU that runs are planned for."""
    return train.precision != "fp32"


def arithmetic_of(train: TrainConfig) -> Arithmetic:
    """By which a run multiplies matrices on a GPU."""
    if is_bf16(train):
        return "bf16"
    return "tf32" if train.float32_matmul_precision == "high" else "fp32"


def trained_weights(parts: Sequence[Part]) -> int:
    """How many weights learn."""
    return sum(part.work.parameters for part in parts if part.optim is not None)


def is_synced_once(parts: Sequence[Part], train: TrainConfig) -> bool:
    """Whether the gradients of cut blocks meet once a step, or after each micro-batch."""
    sync = train.parallel.sync
    return sync == "step" or (sync == "auto" and trained_weights(parts) < SYNCED_ONCE_BELOW)


def shares(parts: Sequence[Part], train: TrainConfig, layout: Layout, checkpointing: Checkpointing) -> list[Share]:
    """What a process holds of each part; of all blocks that are run again, the largest is there."""
    keeps_whole = train.batch_size > train.micro_batch and is_synced_once(parts, train)
    held = [_share(part, train, layout, checkpointing, keeps_whole) for part in parts]
    if parts and checkpointing != "none":
        largest = max(range(len(parts)), key=lambda number: parts[number].work.again)
        again = parts[largest].work.again
        held[largest] = replace(held[largest], activations=held[largest].activations + again)
    return held


def micro_batch_of_a_rank(train: TrainConfig, layout: Layout) -> int:
    """Pictures that a process takes at once."""
    return -(-train.micro_batch // layout.num_ranks)


def total(held: Sequence[Share], num_images: int) -> int:
    """Bytes of all parts together, with so many pictures at once."""
    return sum(share.fixed + num_images * share.activations for share in held)


def asked_checkpointing(train: TrainConfig) -> Checkpointing | None:
    """What a recipe says of it; None = it is left to :func:`fitting_checkpointing`."""
    asked: bool | str = train.checkpoint_activations
    if isinstance(asked, bool):
        return "full" if asked else "none"
    return next((mode for mode in MODES if mode == asked), None)


def fitting_checkpointing(
    parts: Sequence[Part], train: TrainConfig, layout: Layout, num_bytes: float
) -> Checkpointing | None:
    """The fastest way to keep activations that fits into so many bytes a process; None = none does."""
    batch = micro_batch_of_a_rank(train, layout)
    return next((m for m in MODES if total(shares(parts, train, layout, m), batch) <= num_bytes), None)


def fitting_batch(held: Sequence[Share], num_bytes: float) -> int:
    """Most pictures that go through a process at once; 0 if not even the weights fit."""
    activations = sum(share.activations for share in held)
    room = num_bytes - sum(share.fixed for share in held)
    return max(int(room // activations), 0) if activations else 0


def checkpoint_bytes(parts: Sequence[Part], train: TrainConfig) -> dict[str, int]:
    """Of a checkpoint, over all processes: trained weights, averages and moments."""
    trained = [part for part in parts if part.optim is not None]
    averaged = sum(part.work.parameters for part in trained if part.is_averaged)
    return {
        "weights": trained_weights(parts) * FP32,
        "averages": averaged * FP32 * (1 + len(train.extra_ema)),
        "moments": sum(part.work.parameters * MOMENTS[part.optim] for part in trained if part.optim is not None),
    }


def _share(part: Part, train: TrainConfig, layout: Layout, checkpointing: Checkpointing, keeps_whole: bool) -> Share:
    work, kept = part.work, part.work.kept(checkpointing)
    if part.optim is None:
        if train.parallel.frozen == "replicated" or not work.block:
            return Share(part.name, work.parameters * part.weight_bytes, activations=kept)
        gathered = 2 * work.block * part.weight_bytes if layout.is_sharded else 0
        return Share(part.name, _own(work, layout) * part.weight_bytes, gathered=gathered, activations=kept)
    own = _own(work, layout)
    return Share(
        part.name,
        weights=own * FP32,
        gradients=(work.parameters if keeps_whole else own) * FP32,
        moments=own * MOMENTS[part.optim],
        averages=own * FP32 * (1 + len(train.extra_ema)) if part.is_averaged else 0,
        gathered=_gathered(work, train, layout),
        activations=kept,
    )


def _own(work: Work, layout: Layout) -> int:
    """Of a network's weights, how many lie on one process."""
    return work.ends + -(-(work.parameters - work.ends) // layout.num_shards)


def _gathered(work: Work, train: TrainConfig, layout: Layout) -> int:
    """Copies beside a process's own weights and gradients."""
    width = BF16 if is_bf16(train) else 0
    if not layout.is_sharded or not work.block:
        return work.parameters * width
    width, cut = width or FP32, work.parameters - work.ends
    blocks = 2 * work.block if train.parallel.is_resharded else cut
    return blocks * width + work.block * (width + FP32) + (work.ends * BF16 if is_bf16(train) else 0)
