"""``raekit generate PROMPT...``: pictures from prompts, as PNG files that remember how they were made.

In: prompts (or class labels, for a class-conditional model) and settings. Out: one PNG per picture, named after its
prompt and seed, with all settings in its ``raekit`` text field; on request a sheet of all of them, and the latents.
Standard output is the list of files, one a line, the sheet last.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import raekit
from raekit.cli.options import options_of
from raekit.errors import UserError
from raekit.samplers.settings import Sampling

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from raekit.generate import Callback

SLUG_LENGTH = 48
"""Longest prompt part of a file name, characters; in any script that leaves room for the seed below 255 bytes."""

SMALLEST_CELL = 128
"""Pixels: smaller pictures are enlarged by a whole factor on the sheet (never in their own file)."""


@options_of(Sampling, guidance_scale="--guidance")
def generate(
    prompts: Annotated[list[str], typer.Argument(help='What to draw, e.g. "a red apple"; each is drawn --num times.')],
    num: Annotated[int, typer.Option(help="Pictures per prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of a prompt's first picture; the next have seed+1, seed+2, ...")] = 0,
    out: Annotated[Path, typer.Option(help="Directory for the pictures.")] = Path("out"),
    grid: Annotated[bool, typer.Option("--grid", help="Also write grid.png, one row per prompt.")] = False,
    latent: Annotated[bool, typer.Option("--latent", help="Also write each latent as safetensors.")] = False,
    model: Annotated[
        Path | None, typer.Option(help="A generator's directory.", show_default="bundled nano model")
    ] = None,
    **sampling: Any,
) -> None:
    """Draw pictures from prompts."""
    from PIL.Image import fromarray

    from raekit.image_grid import image_grid, to_arrays

    make_writable(out)
    generator = raekit.load(model)
    options = {name: value for name, value in sampling.items() if value is not None}
    common = {**generator.sampling(**options).model_dump(), "model": generator.checksum, "version": raekit.__version__}
    start = time.perf_counter()
    with progress() as report:
        latents = generator.sample(prompts, num, seed, report, **options)
    images = generator.decode(latents)
    typer.echo(f"drew {len(images)} pictures in {time.perf_counter() - start:.1f} s", err=True)

    paths = [out / f"{slug}_seed{seed + index}.png" for slug in slugs(prompts) for index in range(num)]
    settings = [{"prompt": prompt, "seed": seed + index, **common} for prompt in prompts for index in range(num)]
    for path, array, made in zip(paths, to_arrays(images), settings, strict=True):
        save_png(path, fromarray(array), made)
    if latent:
        paths += [save_latent(path, value, made) for path, value, made in zip(paths, latents, settings, strict=True)]
    if grid:
        captions = [prompt for prompt in prompts for _ in range(num)]
        sheet = image_grid(images, num, captions, scale=max(1, SMALLEST_CELL // images.shape[-1]))
        paths.append(save_png(out / "grid.png", sheet, {"prompts": prompts, "seed": seed, "num": num, **common}))
    for path in paths:
        typer.echo(path)


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


def make_writable(folder: Path) -> None:
    """Make ``folder`` and try a file in it, so that a bad place is known before the work and not after it.

    Raises:
        UserError: it cannot be made or written to.
    """
    trial = folder / ".raekit"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise UserError(f"--out {str(folder)!r}: {error.strerror}; name a directory that can be written to") from None


def save_png(path: Path, picture: Image, made: Mapping[str, Any]) -> Path:
    """Write a PNG whose text field ``raekit`` holds ``made`` as JSON, all or nothing; returns the path.

    Raises:
        UserError: the disk is full or the place is not writable.
    """
    from PIL.PngImagePlugin import PngInfo

    from raekit.checkpoint import atomic_file

    info = PngInfo()
    info.add_text("raekit", json.dumps(made))
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG", pnginfo=info)
    with atomic_file(path) as temporary:
        temporary.write_bytes(encoded.getvalue())
    return path


def save_latent(picture: Path, latent: Tensor, made: Mapping[str, Any]) -> Path:
    """Write a latent ``[C, h, w]`` beside its picture, as ``latent`` in a safetensors file; returns the path."""
    from safetensors.torch import save_file

    from raekit.checkpoint import atomic_file

    path = picture.with_suffix(".safetensors")
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
