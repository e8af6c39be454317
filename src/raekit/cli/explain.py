"""``raekit explain RECIPE``: what a recipe comes to, before a GPU is asked for it.

In: a recipe and overrides. Out: the resolved YAML with every default written out, then what the code derives from it
(latent shape, parameter counts, time shift ...), and with ``--gpu`` an estimate of memory, messages and hours. No
weights are loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raekit.cli.report import print_rows


def explain(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/nano/generator.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. optim.lr=1e-4.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Estimate memory and hours on this GPU, e.g. h100 or rtx4090.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", help="How many of them.")] = 1,
    mfu: Annotated[float, typer.Option("--mfu", help="Share of their peak speed that is reached.")] = 0.4,
    strategy: Annotated[
        str | None, typer.Option(help="ddp, fsdp or hsdp; without it as the recipe says, or by size.")
    ] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Build every network at full depth, on the meta device.")
    ] = False,
) -> None:
    """Show a recipe with every default written out, and what the code derives from it."""
    from raekit.config import dump_yaml
    from raekit.training.recipe import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    derived = resolved.describe()
    typer.echo(dump_yaml(resolved).rstrip())
    if derived:
        print_rows("\nderived", derived)
    if build:
        from raekit.training.planning.assembly import describe_assembly

        print_rows("\nbuilt on the meta device", describe_assembly(resolved))
    if gpu is not None:
        from raekit.training.parallel.layout import strategy_of
        from raekit.training.planning.budget import budget
        from raekit.training.planning.machines import Machine

        machine, asked = Machine(gpu, gpus, mfu), strategy_of(strategy or resolved.train.parallel.strategy)
        print_rows("\nestimate, nothing measured", budget(resolved.parts(), resolved.train, machine, asked))
