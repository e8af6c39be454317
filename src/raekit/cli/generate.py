"""``raekit generate PROMPT...``: pictures from prompts, as PNG files that remember how they were made.

In: prompts (or class labels, for a class-conditional model) and settings. Out: one PNG per picture, named after its
prompt and seed, with all settings in its ``raekit`` text field; on request a sheet of all of them, and the latents.
Standard output is the list of files, one a line, the sheet last.
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
from raekit.config import Config
from raekit.errors import UserError
from raekit.samplers.settings import Sampling

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from raekit.generate import Callback, ImageGenerator

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


class Loading(Config):
    """Which model, and where it runs."""

    device: str | None = None
    """auto, cpu, cuda, cuda:1, ..."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""


class Adapting(Config):
    """Low-rank adapters beside the model's weights."""

    lora: str | None = None
    """Directory of adapters to draw with (`raekit lora list` names some)."""
    lora_scale: float | None = None
    """What the adapters say is multiplied by this (default: 1)."""


@options_of(Loading, default=False)
@options_of(Adapting, default=False)
@options_of(Drawing, default=False)
@options_of(Sampling, guidance="--guidance-kind", guidance_scale="--guidance")
def generate(
    prompts: Annotated[list[str], typer.Argument(help='What to draw, e.g. "a red apple"; each is drawn --num times.')],
    num: Annotated[int, typer.Option(help="Pictures per prompt.")] = 4,
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

    from raekit.files import make_writable
    from raekit.image_grid import enlargement, image_grid, to_arrays

    make_writable(out, "--out")
    loading, drawing, sampling = (stated(options, kind) for kind in (Loading, Drawing, Sampling))
    generator = raekit.load(model, **loading)
    common = {**generator.sampling(**sampling).model_dump(mode="json"), **drawing}
    common |= {"model": generator.checksum, "version": raekit.__version__, **adapted(generator, options)}
    start = time.perf_counter()
    with progress() as report:
        latents = generator.sample(prompts, num, seed, report, **sampling, **drawing)
    images = generator.decode(latents) if grid or output is not Output.latent else None
    typer.echo(f"drew {len(latents)} pictures in {time.perf_counter() - start:.1f} s", err=True)

    names = [f"{slug}_seed{seed + index}" for slug in slugs(prompts) for index in range(num)]
    made = [{"prompt": prompt, "seed": seed + index, **common} for prompt in prompts for index in range(num)]
    paths = []
    if images is not None and output is not Output.latent:
        for name, array, settings in zip(names, to_arrays(images), made, strict=True):
            paths.append(save_png(out / f"{name}.png", fromarray(array), settings))
    if output is not Output.image:
        for name, latent, settings in zip(names, latents, made, strict=True):
            paths.append(save_latent(out / f"{name}.safetensors", latent, settings))
    if grid and images is not None:
        captions = [prompt for prompt in prompts for _ in range(num)]
        sheet = image_grid(images, num, captions, enlargement(images.shape[-1]))
        paths.append(save_png(out / "grid.png", sheet, {"prompts": prompts, "seed": seed, "num": num, **common}))
    for path in paths:
        typer.echo(path)


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


def save_latent(path: Path, latent: Tensor, made: Mapping[str, Any]) -> Path:
    """Write a latent ``[C, h, w]`` as ``latent`` in a safetensors file; returns the path."""
    from safetensors.torch import save_file

    from raekit.files import atomic_file

    with atomic_file(path) as temporary:
        save_file({"latent": latent.contiguous()}, temporary, metadata={"raekit": json.dumps(made)})
    return path


@contextmanager
def progress() -> Iterator[Callback]:
    """A progress bar on standard error, and the callback that moves it."""
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

        def report(state: dict[str, Any]) -> None:
            batch, steps, first = len(state["z_t"]), state["num_steps"], state["first"]
            label = f"pictures {first + 1}-{first + batch} of {state['num_images']}"
            done = first * steps + batch * (state["step"] + 1)
            bar.update(task, description=label, completed=done, total=state["num_images"] * steps)

        yield report
