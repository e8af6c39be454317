"""Does bf16 train as fp32 does? The same recipe, seed and data, in both, one curve beside the other.

In: a recipe. Out: a run directory for each precision, the mean loss over ten stretches of the run, and how many steps
were not finite. Matrix products in bf16 with master weights, norms, softmax, times and loss in fp32 should lose nothing
that the noise of the batches does not hide (both draw the same samples, times and noise, so most of that cancels).
Runs are resumed where they were stopped, and left alone when they are finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from raekit import config as recipes
from raekit.errors import UserError
from raekit.evaluate.figures import Mean
from raekit.studies.base import Progress, Study, silent
from raekit.studies.plot import Panel, draw_panels
from raekit.studies.report import StudyReport
from raekit.training.loop import Trainer
from raekit.training.recipe import load_recipe
from raekit.training.saving.run import finished_artefact, read_log

PRECISIONS = ("fp32", "bf16")
NUM_STRETCHES = 10
TITLE = "bf16 against fp32"


class PrecisionCurves(Study):
    """Does bf16 train as fp32 does: loss curves of one recipe in both."""

    class Config(recipes.Config):
        """Settings of the study."""

        name: Literal["precision"] = "precision"
        recipe: Path = Path("recipes/nano/generator.yaml")
        """What is trained."""
        steps: int = Field(2000, ge=NUM_STRETCHES)
        """Optimiser steps of each run."""
        batch_size: int = Field(64, ge=1)
        """Samples of a step."""

    def __init__(self, config: recipes.Config) -> None:
        assert isinstance(config, self.Config)
        self.config = config

    def run(self, directory: Path, progress: Progress | None = None) -> StudyReport:
        config, told = self.config, progress or silent
        losses, bad = {}, {}
        for number, precision in enumerate(PRECISIONS):
            told(f"training in {precision}", number, len(PRECISIONS))
            rows = self._trained(directory / precision, precision)
            losses[precision] = [(int(row["step"]), float(row["loss"])) for row in rows if "loss" in row]
            bad[precision] = sum(int(row.get("bad_steps", 0)) for row in rows)
        return report_of(losses, bad, config.model_dump(mode="json"), config.steps)

    def _trained(self, run: Path, precision: str) -> list[dict[str, float]]:
        """The log of a run, taken to its end."""
        cfg = self.config
        log_every = max(1, cfg.steps // 200)
        sets = {
            "run": run,
            "train.precision": precision,
            "train.steps": cfg.steps,
            "train.batch_size": cfg.batch_size,
            "train.log_every_steps": log_every,
            "train.sample_every_steps": cfg.steps,
        }
        if finished_artefact(run, cfg.steps) is not None:
            return read_log(run)
        recipe = load_recipe(cfg.recipe, [f"{key}={value}" for key, value in sets.items()])
        is_resumed = any((run / "checkpoints").glob("step_*"))
        if Trainer(recipe, is_resumed).train() is None:
            raise UserError(f"study precision: stopped in {precision}; the same command goes on from its checkpoint")
        return read_log(run)


def report_of(
    losses: dict[str, list[tuple[int, float]]], bad: dict[str, int], settings: dict[str, object], steps: int
) -> StudyReport:
    """Mean losses by stretch of the run.

    Args:
        losses: by precision, (step, loss) of every line of the log.
        bad: by precision, steps that were not finite.
        settings: recipe and sizes.
        steps: of each run.
    """
    edges = [steps * number // NUM_STRETCHES for number in range(NUM_STRETCHES + 1)]
    stretches = [f"{low}-{high}" for low, high in zip(edges, edges[1:], strict=False)]
    curves = {
        name: [
            Mean.of(torch.tensor([loss for step, loss in points if low < step <= high]))
            for low, high in zip(edges, edges[1:], strict=False)
        ]
        for name, points in losses.items()
    }
    first, second = (curves[name] for name in PRECISIONS)
    rows = [
        (f"steps {stretch}", [f"{a.value:.4f}", f"{b.value:.4f}", f"{(b.value / a.value - 1) * 100:+.2f} %"])
        for stretch, a, b in zip(stretches, first, second, strict=True)
    ]
    gap = second[-1].value / first[-1].value - 1
    notes = [
        f"last stretch: bf16 {gap * 100:+.2f} % against fp32",
        f"steps that were not finite: {', '.join(f'{name} {count}' for name, count in bad.items())}",
        "the same samples, times and noise in both runs",
    ]
    panels = [
        Panel("training loss", [stretch.split("-")[1] for stretch in stretches], curves, "up to step"),
        Panel(
            "training loss, second half",
            [stretch.split("-")[1] for stretch in stretches[NUM_STRETCHES // 2 :]],
            {name: curve[NUM_STRETCHES // 2 :] for name, curve in curves.items()},
            "up to step",
        ),
    ]
    figures = {name: [mean.value for mean in curve] for name, curve in curves.items()}
    columns = [*PRECISIONS, "difference"]
    kept = {**figures, "bad": bad}
    return StudyReport(TITLE, settings, columns, [("mean loss", rows)], kept, notes, draw_panels(panels))
