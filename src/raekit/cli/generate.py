"""``raekit generate PROMPT...``: pictures from prompts, as PNG files that remember how they were made.

In: prompts (or class labels, for a class-conditional model) and settings. Out: one PNG per picture, named after its
prompt and seed, with all settings in its ``raekit`` text field; on request a sheet of all of them, and the latents. Of
the best of N (``--best-of``) the score is there too, and ``scores.json`` holds those of all candidates. Standard output
is the list of files, one a line, the sheet last.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import raekit
from raekit.cli.options import options_of
from raekit.cli.processes import check_out, num_processes, shared
from raekit.cli.report import counted
from raekit.config import Config, validate
from raekit.errors import UserError
from raekit.samplers.settings import Sampling

if TYPE_CHECKING:
    from PIL.Image import Image

    from raekit.best_of import Choice
    from raekit.generate import Callback, ImageGenerator

SCORES_FILE = "scores.json"

SLUG_LENGTH = 48
"""Longest prompt part of a file name, characters; in any script that leaves room for the seed below 255 bytes."""


class Output(StrEnum):
    """What is written of each picture."""

    image = "image"
    latent = "latent"
    both = "both"


class Drawing(Config):
    """What else may be said of a call."""

    negative: str | None = None
    """What the pictures are moved away from, in place of the lack of a prompt."""
    image: str | None = None
    """A picture to start from: draws variations of it."""
    strength: float | None = None
    """How far variations leave --image: 1 forgets it, towards 0 it hardly changes (default: 0.6)."""


class Choosing(Config):
    """How many candidates are drawn, who judges them, and how many are left."""

    best_of: int | None = None
    """Draw this many candidates of each prompt, seeds as for --num, and keep the best."""
    keep: int | None = None
    """How many of the candidates are kept (default: 1)."""
    verifier: str | None = None
    """Who judges them: `raekit list verifiers`; NAME=DIR names the weights of one that needs some, or another model."""
    prune_at: float | None = None
    """After this share of the steps drop the worse half, judged by where it is heading; 0.5, say."""


class Loading(Config):
    """Which model, and where it runs."""

    device: str | None = None
    """auto, cpu, cuda, cuda:1, ..."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""


class Adapting(Config):
    """Low-rank adapters beside the model's weights."""

    lora: str | None = None
    """Directory of adapters to draw with, RUN/lora of a run that trained some (`raekit lora list` names them)."""
    lora_scale: float | None = None
    """What the adapters say is multiplied by this (default: 1)."""


@options_of(Loading, default=False)
@options_of(Adapting, default=False)
@options_of(Choosing, default=False)
@options_of(Drawing, default=False)
@options_of(Sampling, guidance="--guidance-kind", guidance_scale=("--guidance-scale", "--guidance"))
@shared
def generate(
    prompts: Annotated[list[str], typer.Argument(help='What to draw, e.g. "a red apple"; each is drawn --num times.')],
    num: Annotated[int | None, typer.Option(help="Pictures per prompt.", show_default="4")] = None,
    seed: Annotated[int, typer.Option(help="Seed of a prompt's first picture; the next have seed+1, seed+2, ...")] = 0,
    out: Annotated[Path, typer.Option(help="Directory for the pictures.")] = Path("out"),
    output: Annotated[
        Output, typer.Option(help="What to write of each: its picture, its latent as safetensors, or both.")
    ] = Output.image,
    grid: Annotated[bool, typer.Option("--grid", help="Also write grid.png, one row per prompt.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A generator: directory or hub id.", show_default="bundled nano model")
    ] = None,
    **options: Any,
) -> None:
    """Draw pictures from prompts."""
    from PIL.Image import fromarray

    from raekit import distributed, latent_file
    from raekit.best_of import asked_of
    from raekit.image_grid import enlargement, image_grid, to_arrays

    loading, drawing, sampling = (stated(options, kind) for kind in (Loading, Drawing, Sampling))
    wanted = asked_of(stated(options, Choosing), 1 if num is None else num)
    num = 4 if num is None and wanted is None else num
    check(sampling, wanted[1].best_of if wanted else num or 0, seed)
    check_out(out)
    generator = raekit.load(model, **loading)
    common = {**generator.sampling(**sampling).model_dump(mode="json"), **drawing}
    common |= {"model": generator.checksum, "version": raekit.__version__, **adapted(generator, options)}
    start = time.perf_counter()
    with progress() as report:
        if wanted is None:
            assert num is not None
            latents = generator.sample(prompts, num, seed, report, **sampling, **drawing)
            made = [{"prompt": prompt, "seed": seed + index} for prompt in prompts for index in range(num)]
        else:
            choice = generator.best_of(prompts, wanted[0], wanted[1], seed, report, **sampling, **drawing)
            latents, made, num = choice.latents, chosen(choice, *wanted), wanted[1].keep
    images = generator.decode(latents) if grid or output is not Output.latent else None
    typer.echo(f"drew {counted(len(latents), 'picture')} in {time.perf_counter() - start:.1f} s", err=True)

    if not distributed.is_main():
        return
    stems = [stem for stem in slugs(prompts) for _ in range(num)]
    names = [f"{stem}_seed{one['seed']}" for stem, one in zip(stems, made, strict=True)]
    made = [{**one, **common} for one in made]
    paths = []
    if images is not None and output is not Output.latent:
        for name, array, settings in zip(names, to_arrays(images), made, strict=True):
            paths.append(save_png(out / f"{name}.png", fromarray(array), settings))
    if output is not Output.image:
        space = generator.latent_space.checksum
        for name, latent, settings in zip(names, latents, made, strict=True):
            paths.append(latent_file.save(out / f"{name}.safetensors", latent, space, settings))
    if wanted is not None:
        paths.append(save_scores(out / SCORES_FILE, choice, names, wanted, common))
    if grid and images is not None:
        sheet = image_grid(images, num, captions(made), enlargement(images.shape[-1]))
        paths.append(save_png(out / "grid.png", sheet, {"prompts": prompts, "seed": seed, "num": num, **common}))
    typer.echo("\n".join(map(str, paths)))


def check(sampling: Mapping[str, Any], num: int, seed: int) -> None:
    """Refuse, before a model is loaded, settings and seeds that no model could draw with.

    Raises:
        UserError: a setting out of range, or a number or seed that stands for no picture.
    """
    from raekit.seeds import image_seeds

    # The weaker model of auto guidance may be the model's own.
    validate(Sampling, {"guide": "", **sampling}, "sampling")
    image_seeds(num, seed)


def chosen(choice: Choice, verifier: Any, choosing: Any) -> list[dict[str, Any]]:
    """What each kept picture remembers of its choice."""
    told = {"best_of": choosing.best_of, "keep": choosing.keep, "prune_at": choosing.prune_at, "verifier": verifier}
    return [
        {"prompt": prompt, "seed": one.seed, "score": one.score, "rank": one.rank, "score_parts": one.parts, **told}
        for prompt, one in choice.winners
    ]


def captions(made: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each picture its prompt, and its score if it has one."""
    return [one["prompt"] if "score" not in one else f"{one['score']:.3g}: {one['prompt']}" for one in made]


def save_scores(
    path: Path, choice: Choice, names: Sequence[str], wanted: tuple[Any, Any], common: Mapping[str, Any]
) -> Path:
    """Write what every candidate scored, and the names of those that were kept; returns the path.

    Raises:
        UserError: the disk is full or the place is not writable.
    """
    from raekit.files import write_atomically

    keep = wanted[1].keep
    rows = [
        {**selection.as_json(), "files": list(names[keep * row : keep * (row + 1)])}
        for row, selection in enumerate(choice.selections)
    ]
    content = {"verifier": wanted[0], **vars(wanted[1]), "seconds": choice.seconds, "settings": common, "prompts": rows}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def adapted(generator: ImageGenerator, options: Mapping[str, Any]) -> dict[str, Any]:
    """Load the adapters that were asked for; what a picture remembers of them.

    Raises:
        UserError: a scale without adapters, no adapters there, or adapters of another generator.
    """
    directory, scale = options["lora"], options["lora_scale"]
    if directory is None:
        if scale is not None:
            raise UserError(f"--lora-scale {scale:g}: there are no adapters to scale; name some with --lora")
        return {}
    generator.load_lora(directory, 1.0 if scale is None else scale)
    return {"lora": directory, "lora_scale": 1.0 if scale is None else scale}


def stated(options: Mapping[str, Any], settings: type[Config]) -> dict[str, Any]:
    """Those of ``options`` that are fields of ``settings`` and were typed."""
    return {name: options[name] for name in settings.model_fields if options[name] is not None}


def slugs(prompts: Sequence[str]) -> list[str]:
    """A different file name stem for each prompt: its letters and digits, and a number where two would be the same."""
    stems: list[str] = []
    for prompt in prompts:
        stem = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "image"
        taken = sum(re.fullmatch(rf"{re.escape(stem)}(-\d+)?", other) is not None for other in stems)
        while (unique := f"{stem}-{taken + 1}" if taken else stem) in stems:
            taken += 1
        stems.append(unique)
    return stems


def save_png(path: Path, picture: Image, made: Mapping[str, Any]) -> Path:
    """Write a PNG whose text field ``raekit`` holds ``made`` as JSON, all or nothing; returns the path.

    Raises:
        UserError: the disk is full or the place is not writable.
    """
    from raekit.files import write_atomically
    from raekit.image_grid import encode_png

    write_atomically(path, encode_png(picture, {"raekit": json.dumps(made)}))
    return path


@contextmanager
def progress() -> Iterator[Callback]:
    """A progress bar on standard error, and the callback that moves it; of several processes, each draws its share."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading prompts", total=None)

        steps_taken = 0

        def report(state: dict[str, Any]) -> None:
            nonlocal steps_taken
            batch, first, num_images = len(state["z_t"]), state["first"], state["num_images"]
            steps_taken += batch
            label = f"pictures {first + 1}-{first + batch} of {num_images}"
            total = num_images * state["num_steps"]
            bar.update(task, description=label, completed=min(total, steps_taken * num_processes()), total=total)

        yield report
