"""``raekit train RECIPE``: train whatever the recipe's stage says, here or under the same run directory again.

In: a recipe and overrides. Out: the run directory, and the path of the finished artefact.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from raekit.training.saving.starting import Starting, Stopped


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/nano/generator.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. optim.lr=1e-4.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run directory, in place of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint of the run.")] = False,
) -> None:
    """Train a stage. Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint and leave; --resume continues bit for bit."""
    try:
        with Starting():
            _train(recipe, overrides or [], run, resume)
    except Stopped as stopped:
        typer.echo(f"stopped by {stopped}")
        raise


def _train(recipe: Path, overrides: Sequence[str], run: Path | None, resume: bool) -> None:
    from raekit import distributed
    from raekit.training.loop import Trainer
    from raekit.training.recipe import load_recipe
    from raekit.training.saving.run import finished_artefact

    changes = [*overrides, *([f"run={run}"] if run else [])]
    settings = load_recipe(recipe, changes)
    if resume and (finished := finished_artefact(settings.run, settings.train.steps)) is not None:
        typer.echo(f"finished already: {finished} after step {settings.train.steps}; raise train.steps to train on")
        return
    trainer = Trainer(settings, is_resumed=resume)
    if distributed.world() > 1 and distributed.is_main():
        typer.echo(f"{distributed.world()} processes; {trainer.placement.layout.reason}")
    artefact = trainer.train()
    if artefact is None:
        command = _resuming(recipe, overrides, trainer.run.path)
        typer.echo(f"stopped after step {trainer.step}; continue with: {command}")
    else:
        typer.echo(f"wrote {artefact}")


def _resuming(recipe: Path, overrides: Sequence[str], run: Path) -> str:
    """The command that continues a run, for a shell: the same recipe with the same changes."""
    changes = [word for override in overrides for word in ("--set", override)]
    return shlex.join(["raekit", "train", str(recipe), *changes, "--run", str(run), "--resume"])
