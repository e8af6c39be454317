"""``raekit bench WHAT``: how fast a recipe trains on this machine, and where the time goes.

In: a recipe, and optionally one setting to compare it with in the same call. Out: rows on standard output, JSON where a
file is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raekit.cli.report import print_rows
from raekit.files import atomic_file

if TYPE_CHECKING:
    from raekit.bench.data import DataReport
    from raekit.bench.report import BenchReport

bench = typer.Typer(no_args_is_help=True, help="Measure speed and memory.")

Decoder = Annotated[Path, typer.Argument(metavar="RECIPE", help="Of stage 1, e.g. recipes/nano/decoder.yaml.")]
Generator = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="Of stage 2 or unified, e.g. recipes/nano/generator.yaml.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", metavar="KEY=VALUE", help="Measure a second time with this changed; print the ratio."),
]
Repeats = Annotated[int, typer.Option(min=1, help="Timed steps.")]
Out = Annotated[Path | None, typer.Option(help="Write the reports here as JSON.")]


@bench.command("stage1")
def stage1(
    recipe: Decoder, overrides: Overrides = None, against: Against = None, repeats: Repeats = 5, out: Out = None
) -> None:
    """Images/s of stage 1; shares of encoder, decoder, perceptual terms, discriminator, optimisers, loader."""
    from raekit.bench.stage1 import bench_stage1

    _compare(bench_stage1, recipe, overrides or [], against or [], repeats, out)


@bench.command("stage2")
def stage2(
    recipe: Generator,
    overrides: Overrides = None,
    against: Against = None,
    repeats: Repeats = 5,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Of the recipe's sizes, and pictures of noise: nothing need be here."),
    ] = False,
    out: Out = None,
) -> None:
    """Images/s of stage 2, or conversations/s and tokens/s of a unified recipe; shares of encoder, conditioner or
    language model, backbone, optimisers, loader."""
    from raekit.bench.stage2 import bench_stage2

    _compare(
        partial(bench_stage2, are_weights_random=random_weights), recipe, overrides or [], against or [], repeats, out
    )


@bench.command("sample")
def sample(
    model: Annotated[
        str | None,
        typer.Option(
            help="A generator: directory or hub id. Or a recipe of stage 2 or unified, measured with random weights of "
            "its sizes.",
            show_default="bundled nano model",
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Drawn as often as the batch is large.")] = "a red apple",
    batch: Annotated[int, typer.Option("--batch-size", "--batch", min=1, help="Images at once.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 50,
    guidance: Annotated[
        float, typer.Option("--guidance-scale", "--guidance", help="Measured beside 1, which is none.")
    ] = 3.0,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Out = None,
) -> None:
    """Images/s of drawing, with and without guidance; shares of prompts, sampler, decoder."""
    from raekit.bench.sample import bench_sample, measured_generator
    from raekit.generate import ClassToImage

    generator = measured_generator(model, device)
    asked = [0 if isinstance(generator, ClassToImage) else prompt] * batch
    reports = [bench_sample(generator, asked, steps, scale, repeats) for scale in (1.0, guidance)]
    for report in reports:
        print_rows(report.name, report.rows())
    _write(reports, out)


@bench.command("understand")
def understand(
    model: Annotated[
        str | None,
        typer.Option(
            help="A unified model: directory or hub id. Or a unified recipe, measured with random weights of its "
            "sizes.",
            show_default="bundled nano unified model",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch-size", "--batch", min=1, help="Questions at once, measured beside one.")
    ] = 8,
    words: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 32,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Out = None,
) -> None:
    """Tokens/s of answering one question and several at once, with keys and values kept and with everything read again
    for each word; shares of looking, the first word, the further ones."""
    from raekit.bench.sample import measured_generator
    from raekit.bench.understand import bench_understand
    from raekit.multimodal.unified import BUNDLED

    generator = measured_generator(model, device, BUNDLED)
    reports = [
        report
        for num in dict.fromkeys((1, batch))
        for report in bench_understand(generator, num, words, repeats=repeats)
    ]
    for report in reports:
        print_rows(report.name, report.rows())
    for kept, again in zip(reports[::2], reports[1::2], strict=True):
        ratio = kept.tokens_per_second / again.tokens_per_second
        typer.echo(f"{ratio:.2f} times the tokens/s with keys and values kept, {kept.count} at once")
    _write(reports, out)


@bench.command("verify")
def verify(
    model: Annotated[
        str | None, typer.Option(help="A generator's directory or hub id; by default the bundled nano model.")
    ] = None,
    verifier: Annotated[str, typer.Option(help="Who judges; one that sees latents.")] = "answer_logits",
    num: Annotated[int, typer.Option(min=1, help="Candidates at once.")] = 16,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Out = None,
) -> None:
    """Candidates/s of judging by latents, and with rendering and looking again; of a model of the same sizes."""
    from raekit.bench.verify import bench_verify
    from raekit.generate import load_generator

    reports = bench_verify(load_generator(model, device), num, verifier, repeats=repeats)
    for report in reports:
        print_rows(report.name, report.rows())
    typer.echo(f"by latents in {reports[0].call_seconds / reports[1].call_seconds:.2f} of the time")
    _write(list(reports), out)


@bench.command("parallel")
def parallel(
    strategy: Annotated[str, typer.Option(help="How weights lie: auto, ddp, fsdp or hsdp.")] = "auto",
    width: Annotated[int, typer.Option(min=64, help="Of the backbone's tokens, a multiple of 64.")] = 1024,
    depth: Annotated[int, typer.Option(min=1, help="Blocks; 10 of width 1024 are 200 million weights.")] = 10,
    batch: Annotated[int, typer.Option("--batch-size", "--batch", min=1, help="Images of a step on each process.")] = 1,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Memory and time of a training step on several processes; start it with torchrun -m raekit bench parallel."""
    from raekit import distributed
    from raekit.bench.parallel import bench_parallel
    from raekit.config import validate
    from raekit.device import pick_device
    from raekit.training.parallel.placement import ParallelConfig

    config = validate(ParallelConfig, {"strategy": strategy}, "--strategy")
    own = distributed.join(pick_device(device))
    report = bench_parallel(width, depth, config, own, batch, repeats)
    if distributed.is_main():
        print_rows("a training step of one backbone", report.rows())
    distributed.leave()


@bench.command("saving")
def saving(
    folder: Annotated[Path, typer.Option(help="A folder on the disk that runs are kept on; nothing is left in it.")],
    width: Annotated[int, typer.Option(min=64, help="Of the backbone's tokens, a multiple of 64.")] = 1024,
    depth: Annotated[int, typer.Option(min=1, help="Blocks; 10 of width 1024 are 200 million weights.")] = 10,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """How long a checkpoint holds training up, written at once and in the background."""
    from raekit.bench.saving import bench_saving
    from raekit.device import pick_device
    from raekit.files import make_writable

    make_writable(folder, "--folder")
    at_once, behind = bench_saving(width, depth, folder, pick_device(device), repeats)
    print_rows("written at once (train.save_in_background: false)", at_once.rows())
    print_rows("written in the background (true)", behind.rows())


@bench.command("data")
def data(
    images: Annotated[int, typer.Option(min=1, help="Pictures that are drawn and read.")] = 512,
    side: Annotated[int, typer.Option(min=16, help="Of the stored pictures, pixels.")] = 384,
    size: Annotated[int, typer.Option(min=16, help="Of the pictures in a batch, pixels.")] = 256,
    batch: Annotated[int, typer.Option("--batch-size", "--batch", min=1, help="Pictures at once.")] = 32,
    threads: Annotated[int, typer.Option(min=1, help="That read.")] = 2,
    step_seconds: Annotated[float, typer.Option(min=0.001, help="What a step takes beside the waiting.")] = 0.25,
    out: Out = None,
) -> None:
    """Images/s of a folder, tar shards, shards over HTTP, cached latents; how long a step waits for them."""
    from raekit.bench.data import DataTask, bench_data

    reports = bench_data(DataTask(images, side, size, batch, threads, step_seconds))
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
        ratio = reports[0].per_second / reports[1].per_second
        typer.echo(f"{ratio:.2f} times the speed of {' '.join(against)}")
    _write(reports, out)


def _write(reports: Sequence[BenchReport | DataReport], out: Path | None) -> None:
    if out is None:
        return
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps([report.as_json() for report in reports], indent=1) + "\n", encoding="utf-8")
    typer.echo(f"wrote {out}")
