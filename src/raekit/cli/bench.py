"""``raekit bench WHAT``: how fast a recipe trains on this machine, and where the time goes.

In: a recipe, and optionally one setting to compare it with in the same call. Out: rows on standard output, JSON where a
file is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raekit.cli.report import print_rows
from raekit.files import atomic_file

if TYPE_CHECKING:
    from raekit.bench.report import BenchReport

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

    _compare(bench_stage1, recipe, overrides or [], against or [], repeats, out)


@bench.command("stage2")
def stage2(
    recipe: Recipe, overrides: Overrides = None, against: Against = None, repeats: Repeats = 5, out: Out = None
) -> None:
    """Images/s of stage 2; shares of encoder and conditioner, backbone, optimisers, loader."""
    from raekit.bench.stage2 import bench_stage2

    _compare(bench_stage2, recipe, overrides or [], against or [], repeats, out)


@bench.command("sample")
def sample(
    model: Annotated[
        str | None, typer.Option(help="A generator's directory or hub id; by default the bundled nano model.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Drawn as often as the batch is large.")] = "a red apple",
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 50,
    guidance: Annotated[float, typer.Option(help="Measured beside 1, which is none.")] = 3.0,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Out = None,
) -> None:
    """Images/s of drawing, with and without guidance; shares of prompts, sampler, decoder."""
    from raekit.bench.sample import bench_sample
    from raekit.generate import load_generator

    generator = load_generator(model, device)
    reports = [bench_sample(generator, [prompt] * batch, steps, scale, repeats) for scale in (1.0, guidance)]
    for report in reports:
        print_rows(report.name, report.rows())
    _write(reports, out)


def _compare(
    measure: Callable[[Any, int], BenchReport],
    recipe: Path,
    overrides: list[str],
    against: list[str],
    repeats: int,
    out: Path | None,
) -> None:
    """One report, or two and their ratio."""
    from raekit.training.recipe import load_recipe

    settings = [overrides, *([[*overrides, *against]] if against else [])]
    reports = [measure(load_recipe(recipe, changes), repeats) for changes in settings]
    for changes, report in zip(settings, reports, strict=True):
        print_rows(" ".join([report.name, *changes]), report.rows())
    if against:
        ratio = reports[0].images_per_second / reports[1].images_per_second
        typer.echo(f"{ratio:.2f} times the speed of {' '.join(against)}")
    _write(reports, out)


def _write(reports: list[BenchReport], out: Path | None) -> None:
    if out is None:
        return
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps([report.as_json() for report in reports], indent=1) + "\n", encoding="utf-8")
    typer.echo(f"wrote {out}")
