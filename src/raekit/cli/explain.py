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
from raekit.errors import UserError


def explain(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/nano/generator.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. optim.lr=1e-4.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Estimate memory and hours on this GPU, e.g. h100 or rtx4090.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="How many of them.", show_default="1")] = None,
    node_size: Annotated[
        int | None, typer.Option("--node-size", help="How many of them share a node.", show_default="8")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option("--mfu", help="Share of their peak speed that is reached.", show_default="0.4")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="ddp, fsdp or hsdp; without it as the recipe says, or by size.")
    ] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Build every network at full depth, on the meta device.")
    ] = False,
) -> None:
    """Show a recipe with every default written out, and what the code derives from it."""
    from raekit.config import dump_yaml
    from raekit.training.parallel.layout import strategy_of
    from raekit.training.planning.machines import NODE, Machine
    from raekit.training.recipe import load_recipe

    for option, value in (("--gpus", gpus), ("--node-size", node_size), ("--mfu", mfu), ("--strategy", strategy)):
        if gpu is None and value is not None:
            raise UserError(f"{option} {value}: there is no estimate without a GPU; name one, e.g. --gpu h100")
    resolved = load_recipe(recipe, overrides or [])
    size = NODE if node_size is None else node_size
    machine = None if gpu is None else Machine(gpu, 1 if gpus is None else gpus, 0.4 if mfu is None else mfu, size)
    asked = strategy_of(strategy or resolved.train.parallel.strategy)
    derived = resolved.describe(machine)
    typer.echo(dump_yaml(resolved).rstrip())
    if derived:
        print_rows("\nderived", derived)
    if build:
        from raekit.training.planning.assembly import describe_assembly

        print_rows("\nbuilt on the meta device", describe_assembly(resolved))
    if machine is not None:
        from raekit.training.planning.budget import budget

        print_rows("\nestimate, nothing measured", budget(resolved.parts(), resolved.train, machine, asked))
