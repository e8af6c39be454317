"""The speed of stage 2 and of the unified stage: a training step, and where its time goes.

In: a recipe of either. Out: a :class:`~raekit.bench.report.BenchReport`, with the frozen encoder (or reading its
cache), the conditioner (a language model, forward and, if it is trained, backward) and the backbone, each by itself; of
the unified stage the parts that ``unified.py`` says.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch

from raekit.backbones.denoising import denoising_losses
from raekit.bench import unified
from raekit.bench.report import BenchReport
from raekit.bench.stand_ins import stand_ins
from raekit.bench.step import Parts, bench_step, long_enough, of_stage
from raekit.conditioning.base import Cond
from raekit.training.loop import Trainer
from raekit.training.stage import Micro, Recipe
from raekit.training.stage2 import Stage2
from raekit.training.told import Told
from raekit.training.unified import Unified


def bench_stage2(recipe: Recipe, repeats: int = 5, are_weights_random: bool = False) -> BenchReport:
    """Time ``repeats`` steps of the recipe.

    Args:
        recipe: of stage 2, or of the unified stage.
        repeats: timed steps.
        are_weights_random: on random weights and pictures of noise, whatever is here (``stand_ins.py``).

    Raises:
        UserError: a recipe of another stage, or one that has no stand-ins.
    """
    settings = of_stage(recipe, Stage2.Config, "stage2", Unified.Config)
    with (
        stand_ins(settings) if are_weights_random else nullcontext(settings) as own,
        tempfile.TemporaryDirectory() as folder,
    ):
        trainer = Trainer(own.model_copy(update={"run": Path(folder) / "run", **long_enough(own, repeats)}))
        stage = trainer.stage
        if isinstance(stage, Unified):
            talking = partial(unified.parts_of, stage)
            return bench_step(trainer, "unified", talking, repeats)
        assert isinstance(stage, Stage2)
        return bench_step(trainer, "stage 2", partial(_parts, stage), repeats)


def _parts(stage: Stage2, micro: Micro) -> Parts:
    """The parts of a step by name, each to be run by itself."""
    with stage.autocast():
        told = stage.teller.tell(micro.batch, micro.draws)
        cond = stage.teller.condition(told)
    fixed = Cond(**{f.name: None if (v := getattr(cond, f.name)) is None else v.detach() for f in fields(cond)})

    def encoding() -> None:
        with stage.autocast():
            stage.teller.latents(micro.batch, micro.draws)

    def reading() -> None:
        """Conditions, and the way back through the conditioner where something in it learns."""
        with stage.autocast():
            features = stage.teller.features(micro.batch)
            read = stage.teller.condition(Told(micro.batch, told.latent, features))
        parts = (getattr(read, f.name) for f in fields(read))
        learned = [part.sum() for part in parts if part is not None and part.requires_grad]
        if learned:
            torch.stack(learned).sum().backward()  # type: ignore[no-untyped-call]

    def denoising() -> None:
        with stage.autocast():
            times = stage.config.times_per_picture
            terms = denoising_losses(stage.generator, told.latent, fixed, micro.draws, times=times)
        loss = terms["loss"].mean()
        loss.backward()  # type: ignore[no-untyped-call]

    return {"encoder": encoding, "conditioner": reading, "backbone": denoising}
