"""The speed of stage 1: a training step, and where its time goes.

In: a stage-1 recipe. Out: a :class:`~raekit.bench.report.BenchReport`. The step is the loop's own, with both players;
its parts are timed apart on the same batch: frozen encoder, decoder (forward and backward), perceptual terms, what the
discriminator costs, optimisers, and the loader beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import torch

from raekit import cost
from raekit.bench.report import BenchReport
from raekit.device import pick_precision
from raekit.errors import UserError
from raekit.training.balance import Pictures
from raekit.training.draws import Draws
from raekit.training.loop import Trainer
from raekit.training.stage import Micro
from raekit.training.stage1 import Stage1


def bench_stage1(recipe: Stage1.Config, repeats: int = 5) -> BenchReport:
    """Time ``repeats`` steps of the recipe, as they are at its end: every term and both players at work.

    Raises:
        UserError: a recipe of another stage.
    """
    if not isinstance(recipe, Stage1.Config):
        raise UserError(f"recipe: of stage {recipe.stage!r}; bench stage1 takes one of stage1")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(_from_the_end(recipe, Path(folder), repeats))
        return _report(trainer, repeats)


def _from_the_end(recipe: Stage1.Config, folder: Path, repeats: int) -> Stage1.Config:
    """The recipe with every term at work from the first step on, and no measuring of shares in between."""
    losses = recipe.losses.model_copy(update={"lpips_start_steps": 0, "gram_start_steps": 0})
    adversary = recipe.adversary
    if adversary is not None:
        adversary = adversary.model_copy(update={"discriminator_start_steps": 0, "start_steps": 0})
    train = recipe.train.model_copy(update={"steps": 10 * (repeats + 4), "max_bad_steps": 10 * repeats + 40})
    changes = {"run": folder / "run", "losses": losses, "adversary": adversary, "train": train}
    return recipe.model_copy(update={**changes, "share_every_steps": 10**9})


def _report(trainer: Trainer, repeats: int) -> BenchReport:
    stage = trainer.stage
    assert isinstance(stage, Stage1)
    device, train = trainer.device, trainer.recipe.train
    loader = stage.batches(0, train.micro_batch)
    batch = next(loader)
    step: Callable[[], object] = lambda: trainer.train_step(repeat(batch))
    step()  # the first step measures shares and allocates the optimisers' state
    flops = cost.count_flops(step)
    cost.forget_peak(device)
    seconds = cost.seconds_of(step, device, repeats)
    micro = Micro(batch, stage.prepare(batch), Draws(0, batch.positions, device))
    passes = train.batch_size // train.micro_batch
    parts = {
        name: cost.seconds_of(part, device, repeats) * passes for name, part in _parts(stage, micro).items()
    }
    parts["optimisers"] = cost.seconds_of(lambda: _update(trainer), device, repeats)
    parts["loader"] = cost.seconds_of(lambda: next(loader), device, repeats) * passes
    precision = pick_precision(train.precision, device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return BenchReport(
        name=f"stage 1, batch {train.batch_size}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        precision=precision,
        images=train.batch_size,
        call_seconds=seconds,
        call_flops=flops,
        matmul_tflops=cost.matmul_tflops(device, dtype),
        peak_bytes=cost.peak_bytes(device),
        part_seconds=parts,
    )


def _parts(stage: Stage1, micro: Micro) -> dict[str, Callable[[], object]]:
    """The parts of a step by name, each to be run by itself."""
    pictures: Pictures = micro.prepared
    image = stage._redraw(pictures, micro.draws).image.detach()

    def decoder() -> None:
        drawn = stage._redraw(pictures, micro.draws)
        drawn.backward(torch.ones_like(drawn.image), 1e-6)

    def perceptual() -> None:
        seen = image.clone().requires_grad_()
        with stage.autocast():
            terms = stage.reconstruction.terms(seen, pictures.target, stage.config.train.steps, None)
        torch.autograd.grad(torch.stack(list(terms.values())).sum(), seen)

    parts: dict[str, Callable[[], object]] = {
        "encoder": lambda: stage.prepare(micro.batch),
        "decoder": decoder,
        "perceptual": perceptual,
    }
    adversary = stage.adversary
    if adversary is not None:

        def discriminator() -> None:
            seen = image.clone().requires_grad_()
            with stage.autocast():
                loss = adversary.fool(seen, micro.draws)
            torch.autograd.grad(loss, seen)
            stage.descend_discriminator([micro], 0)

        parts["discriminator"] = discriminator
    return parts


def _update(trainer: Trainer) -> None:
    for updater in trainer.updaters.values():
        updater.clip()
        updater.update(0)
