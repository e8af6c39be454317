"""The speed of stage 1: a training step, and where its time goes.

In: a stage-1 recipe. Out: a :class:`~raekit.bench.report.BenchReport`, with the frozen encoder, the decoder (forward
and backward), the perceptual terms, and what the discriminator costs, each by itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from raekit.bench.report import BenchReport
from raekit.bench.step import Parts, bench_step, long_enough, of_stage
from raekit.training.adversary import Adversary
from raekit.training.loop import Trainer
from raekit.training.stage import Micro, Recipe
from raekit.training.stage1 import Stage1


def bench_stage1(recipe: Recipe, repeats: int = 5) -> BenchReport:
    """Time ``repeats`` steps of the recipe, as they are at its end: every term and both players at work.

    Raises:
        UserError: a recipe of another stage.
    """
    settings = of_stage(recipe, Stage1.Config, "stage1")
    with tempfile.TemporaryDirectory() as folder:
        changes = {"run": Path(folder) / "run", **long_enough(settings, repeats), **_from_the_end(settings)}
        trainer = Trainer(settings.model_copy(update=changes))
        stage = trainer.stage
        assert isinstance(stage, Stage1)
        return bench_step(trainer, "stage 1", lambda micro: _parts(stage, micro), repeats)


def _from_the_end(recipe: Stage1.Config) -> dict[str, object]:
    """Changes by which every term is at work from the first step on, with no measuring of shares in between."""
    losses = recipe.losses.model_copy(update={"lpips_start_steps": 0, "gram_start_steps": 0})
    adversary = recipe.adversary
    if adversary is not None:
        adversary = adversary.model_copy(update={"discriminator_start_steps": 0, "start_steps": 0})
    return {"losses": losses, "adversary": adversary, "share_every_steps": 10**9}


def _parts(stage: Stage1, micro: Micro) -> Parts:
    """The parts of a step by name, each to be run by itself."""
    pictures = micro.prepared
    image = stage._redraw(pictures, micro.draws).image.detach()

    def decoder() -> None:
        drawn = stage._redraw(pictures, micro.draws)
        drawn.backward(torch.ones_like(drawn.image), 1e-6)

    def perceptual() -> None:
        seen = image.clone().requires_grad_()
        with stage.autocast():
            terms = stage.reconstruction.terms(seen, pictures.target, stage.config.train.steps, None)
        torch.autograd.grad(torch.stack(list(terms.values())).sum(), seen)

    parts: Parts = {"encoder": lambda: stage.prepare(micro.batch), "decoder": decoder, "perceptual": perceptual}
    adversary = stage.adversary
    if adversary is not None:
        parts["discriminator"] = lambda: _both_sides(stage, adversary, image, micro)
    return parts


def _both_sides(stage: Stage1, adversary: Adversary, image: torch.Tensor, micro: Micro) -> None:
    """Being fooled, down to the pixels, and learning to tell."""
    seen = image.clone().requires_grad_()
    with stage.autocast():
        loss = adversary.fool(seen, micro.draws)
    torch.autograd.grad(loss, seen)
    stage.descend_discriminator([micro], 0)
