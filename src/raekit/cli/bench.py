"""``raekit bench WHAT``: how fast a recipe trains on this machine, and where the time goes.

In: a recipe, and optionally one setting to compare it with in the same call. Out: rows on standard output, JSON where a
file is named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from raekit.cli.report import print_rows

bench = typer.Typer(no_args_is_help=True, help="Measure speed and memory.")

Recipe = Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/nano/decoder.yaml.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", metavar="KEY=VALUE", help="Measure a second time with this changed; print the ratio."),
]
Repeats = Annotated[int, typer.Option(min=1, help="Timed steps.")]
Out = Annotated[Path | None, typer.Option(help="Write the reports here as JSON.")]


@bench.command("stage1")
def stage1(
    recipe: Recipe, overrides: Overrides = None, against: Against = None, repeats: Repeats = 5, out: Out = None
) -> None:
    """Images/s of stage 1; shares of encoder, decoder, perceptual terms, discriminator, optimisers, loader."""
    from raekit.bench.stage1 import bench_stage1
    from raekit.files import atomic_file
    from raekit.training.recipe import load_recipe

    settings = [list(overrides or []), *([[*(overrides or []), *against]] if against else [])]
    reports = [bench_stage1(load_recipe(recipe, changes), repeats) for changes in settings]  # type: ignore[arg-type]
    for changes, report in zip(settings, reports, strict=True):
        print_rows(" ".join([report.name, *changes]), report.rows())
    if against:
        ratio = reports[0].images_per_second / reports[1].images_per_second
        typer.echo(f"{ratio:.2f} times the speed of {' '.join(against)}")
    if out is not None:
        with atomic_file(out) as temporary:
            temporary.write_text(json.dumps([report.as_json() for report in reports], indent=1), encoding="utf-8")
        typer.echo(f"wrote {out}")
