"""What a run costs on given GPUs: memory of each, pictures a second, hours. For ``raekit explain RECIPE --gpu h100``.

In: the parts of a recipe with their work, its batch and steps, a machine. Out: rows to print. Nothing is measured: the
arithmetic is counted (``work.py``), the speed is the vendor's peak times the share of it that the caller believes in.
Every process holds everything (weights, gradients, moments, averages), as in data-parallel training without sharding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raekit.errors import UserError
from raekit.registry import nearest_hint
from raekit.training.stage import TrainConfig
from raekit.training.work import BF16, FP32, Part

Rows = list[tuple[str, str]]

MOMENTS = {"adamw": 8, "muon": 4}
"""Bytes that an optimiser keeps for a weight; Muon's are of its matrices, and nearly all weights are in matrices."""
TF32_SHARE = 0.5
"""Speed of fp32 products on tensor cores (TF32) over that of bf16, on all GPUs listed."""
RESERVE = 0.9
"""Share of a GPU's memory that tensors may fill; the rest is CUDA's own, and gaps."""


class GPU(NamedTuple):
    """As its vendor describes it.

    Attributes:
        tflops: of dense bf16 products summed in fp32, 10^12 operations a second.
        gigabytes: of memory.
    """

    tflops: float
    gigabytes: float


GPUS = {
    "b200": GPU(2250, 180),
    "h200": GPU(989, 141),
    "h100": GPU(989, 80),
    "a100": GPU(312, 80),
    "a100-40": GPU(312, 40),
    "l40s": GPU(362, 48),
    "rtx5090": GPU(209.5, 32),
    "rtx4090": GPU(165.2, 24),
    "rtx3090": GPU(71, 24),
}
"""NVIDIA's data sheets, without sparsity; H100 and A100 are the SXM boards."""


@dataclass(frozen=True)
class Machine:
    """What a run is planned for.

    Attributes:
        gpu: row of :data:`GPUS`.
        num_gpus: how many.
        mfu: share of the peak that is reached; 0.3 to 0.5 where all goes well.

    Raises:
        UserError: an unknown GPU, or a number that makes no sense.
    """

    gpu: str
    num_gpus: int = 1
    mfu: float = 0.4

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise UserError(f"--gpu: {self.gpu!r} is not listed; {nearest_hint(self.gpu, GPUS)}")
        if self.num_gpus < 1:
            raise UserError(f"--gpus: {self.num_gpus}; give 1 or more")
        if not 0 < self.mfu <= 1:
            raise UserError(f"--mfu: {self.mfu:g}; give a share of the peak, above 0 and up to 1")


@dataclass(frozen=True)
class Memory:
    """Bytes that one process holds."""

    weights: int
    gradients: int
    moments: int
    averages: int
    copies: int
    frozen: int
    activations: int
    """Of one image."""

    @property
    def fixed(self) -> int:
        """All that does not depend on the batch."""
        return self.weights + self.gradients + self.moments + self.averages + self.copies + self.frozen


def memory(parts: Sequence[Part], train: TrainConfig) -> Memory:
    """What a process holds; with bf16 products a bf16 copy of each trained weight lives through a step."""
    is_bf16, num_averages = train.precision != "fp32", 1 + len(train.extra_ema)
    trained = [part for part in parts if part.optim is not None]
    count = sum(part.work.parameters for part in trained)
    return Memory(
        weights=count * FP32,
        gradients=count * FP32,
        moments=sum(part.work.parameters * MOMENTS[part.optim] for part in trained if part.optim is not None),
        averages=count * FP32 * num_averages,
        copies=count * BF16 if is_bf16 else 0,
        frozen=sum(part.work.parameters * part.weight_bytes for part in parts if part.optim is None),
        activations=sum(
            part.work.checkpointed if train.checkpoint_activations else part.work.activations for part in parts
        ),
    )


def images_per_second(parts: Sequence[Part], train: TrainConfig, machine: Machine) -> float:
    """Training speed of all GPUs together."""
    operations = sum(part.operations(train.checkpoint_activations) for part in parts)
    return _peak(train, machine) * 1e12 * machine.mfu * machine.num_gpus / operations


def budget(parts: Sequence[Part], train: TrainConfig, machine: Machine) -> Rows:
    """The rows of ``raekit explain --gpu``.

    Raises:
        UserError: the stage counts no parts.
    """
    if not parts:
        raise UserError("--gpu: what this recipe trains is not counted; leave it out, or ask of another stage-2 recipe")
    speed = images_per_second(parts, train, machine)
    pictures = train.steps * train.batch_size
    operations = {part.name: part.operations(train.checkpoint_activations) for part in parts}
    each = ", ".join(f"{name} {count / 1e9:,.0f} G" for name, count in operations.items() if count)
    arithmetic = "fp32 (TF32)" if train.precision == "fp32" else "bf16"
    peak = f"{machine.mfu:.0%} of {_peak(train, machine):g} TFLOP/s"
    pace = f"{speed:,.0f} pictures/s, {train.batch_size / speed:.2g} s a step"
    return [
        ("operations a picture", f"{each}; in all {sum(operations.values()) / 1e12:.3g} T (a multiply-add is two)"),
        *_memory_rows(memory(parts, train), train, machine),
        ("speed", f"{machine.num_gpus} {machine.gpu} at {peak} each, {arithmetic}: {pace}"),
        ("time", f"{pictures / speed / 3600:,.1f} hours for {pictures:,} pictures, if the data keeps up"),
    ]


def _peak(train: TrainConfig, machine: Machine) -> float:
    """TFLOP/s of one GPU in the arithmetic of a recipe."""
    return GPUS[machine.gpu].tflops * (TF32_SHARE if train.precision == "fp32" else 1)


def fitting_batch(held: Memory, gpu: GPU) -> int:
    """Most images that go through a GPU at once; 0 if not even the weights fit."""
    room = gpu.gigabytes * 1e9 * RESERVE - held.fixed
    return max(int(room // held.activations), 0) if held.activations else 0


def _memory_rows(held: Memory, train: TrainConfig, machine: Machine) -> Rows:
    gpu = GPUS[machine.gpu]
    batch = -(-train.micro_batch // machine.num_gpus)
    most = fitting_batch(held, gpu)
    names = ("weights", "gradients", "moments", "averages", "copies", "frozen")
    listed = ", ".join(f"{name} {getattr(held, name) / 1e9:.1f}" for name in names if getattr(held, name))
    total = held.fixed + batch * held.activations
    if batch <= most:
        verdict = f"fits; up to {most} would"
    elif most:
        verdict = f"does not fit; {most} would: train.micro_batch_size {most * machine.num_gpus} or less"
    else:
        verdict = "does not fit whatever the batch; it has to be sharded"
    return [
        ("memory per GPU", f"{listed} = {held.fixed / 1e9:.1f} GB"),
        ("activations", f"{held.activations / 1e9:.2f} GB a picture, {batch} at once on each GPU"),
        ("together", f"{total / 1e9:.0f} of {gpu.gigabytes:g} GB: {verdict}"),
    ]
