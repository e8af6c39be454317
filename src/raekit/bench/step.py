"""A training step, timed whole and in parts.

In: a trainer and the parts of its step. Out: a :class:`~raekit.bench.report.BenchReport`. The step is the loop's own,
on a batch that stays the same, so that the loader is timed apart; each part is run by itself on that batch.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any, TypeVar

import torch

from raekit import cost
from raekit.bench.report import BenchReport
from raekit.device import pick_precision
from raekit.errors import UserError
from raekit.multimodal.batch import Conversations
from raekit.training.loop import Trainer
from raekit.training.stage import Micro, Recipe

C = TypeVar("C", bound=Recipe)

Parts = dict[str, Callable[[], object]]
"""What a part does, by the name under which its time is told."""


def of_stage(recipe: Recipe, kind: type[C], bench: str, *others: type[C]) -> C:
    """The recipe, as one of a stage that a bench takes.

    Args:
        recipe: any.
        kind: settings of that stage.
        bench: what the bench is called.
        *others: settings of further stages, which ``kind`` is the base of.

    Raises:
        UserError: a recipe of another stage.
    """
    stages = [str(each.model_fields["stage"].default) for each in (kind, *others)]
    if not isinstance(recipe, kind) or recipe.stage not in stages:
        raise UserError(f"recipe: of stage {recipe.stage!r}; bench {bench} takes one of {' or '.join(stages)}")
    return recipe


def long_enough(recipe: Recipe, repeats: int) -> dict[str, Any]:
    """Changes that let a recipe take every step of a bench, whatever its own length."""
    return {"train": recipe.train.model_copy(update={"steps": 10 * (repeats + 4), "max_bad_steps": 10 * repeats + 40})}


def bench_step(trainer: Trainer, name: str, parts_of: Callable[[Micro], Parts], repeats: int) -> BenchReport:
    """Time ``repeats`` steps, and as many runs of every part.

    Args:
        trainer: at its first step.
        name: of the stage.
        parts_of: the parts of a step on one micro-batch.
        repeats: timed calls of each.
    """
    device, train = trainer.device, trainer.recipe.train
    loader = trainer.stage.batches(0, train.micro_batch)
    batch = next(loader)

    # Operations are counted in this thread alone, so that nothing is encoded ahead in another.
    micros = map(trainer.micro, repeat(batch))
    trainer.train_step(micros)  # the first step allocates the optimisers' state
    flops = cost.count_flops(lambda: trainer.train_step(micros), device)
    seconds, peak = _whole(trainer, batch, repeats)
    micro = trainer.micro(batch)
    passes = train.batch_size // train.micro_batch
    parts = {part: cost.seconds_of(run, device, repeats) * passes for part, run in parts_of(micro).items()}
    parts["optimisers"] = cost.seconds_of(lambda: _update(trainer), device, repeats)
    parts["loader"] = cost.seconds_of(lambda: next(loader), device, repeats) * passes
    precision = pick_precision(train.precision, device)
    return BenchReport(
        name=f"{name}, batch {train.batch_size}{_pictures_of(batch, passes)}",
        device=device_name(device),
        precision=precision,
        count=train.batch_size,
        call_seconds=seconds,
        call_flops=flops,
        matmul_tflops=matmul_speed(device, precision),
        peak_bytes=peak,
        part_seconds=parts,
        unit="conversation" if isinstance(batch, Conversations) else "image",
        tokens=batch.ids.numel() * passes if isinstance(batch, Conversations) else 0,
    )


def device_name(device: torch.device) -> str:
    """As its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def matmul_speed(device: torch.device, precision: str) -> float:
    """Measured matmul speed of a device in a precision, TFLOP/s."""
    return cost.matmul_tflops(device, torch.bfloat16 if precision == "bf16" else torch.float32)


def _whole(trainer: Trainer, batch: Any, repeats: int) -> tuple[float, int]:
    """Seconds of a step, and the most bytes held; what is encoded ahead in one step is learned from in the next."""
    micros = trainer.ready(repeat(batch))
    cost.forget_peak(trainer.device)
    seconds = cost.seconds_of(lambda: trainer.train_step(micros), trainer.device, repeats)
    return seconds, cost.peak_bytes(trainer.device)


def _pictures_of(batch: Any, passes: int) -> str:
    """What a batch of conversations holds, on which its cost depends; nothing of a batch of pictures."""
    if not isinstance(batch, Conversations):
        return ""
    shown, drawn = (0 if pile is None else passes * len(pile) for pile in (batch.shown, batch.drawn))
    return f", {shown} pictures shown and {drawn} drawn"


def _update(trainer: Trainer) -> None:
    for updater in trainer.updaters.values():
        updater.clip()
        updater.update(0)
