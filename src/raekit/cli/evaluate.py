"""``raekit evaluate reconstruction|generation DATA...``: figures of models, side by side; others are apart.

In: pictures and models. Out: one table with a column for each model on standard output; on request a directory with
``report.json``, ``report.html`` and sheets of pictures. DATA is a folder of pictures, a folder of shards, a tar, a
recipe (its ``held_out`` pictures), or a source made on the fly (``rendered_text``); each is a domain of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raekit.cli.evaluate_scenes import scenes
from raekit.cli.evaluate_understanding import benchmark, understanding
from raekit.cli.options import options_of
from raekit.cli.processes import check_out, shared
from raekit.cli.report import progress_bar, show_report
from raekit.config import Config
from raekit.errors import UserError
from raekit.samplers.settings import Sampling

if TYPE_CHECKING:
    from raekit.evaluate.figures import Instruments

DATA_HELP = "Folders of pictures or shards, tars, recipes (their held-out pictures), or rendered_text."
NUM_HELP = "Most pictures of each DATA."
OUT_HELP = "Directory for report.json, report.html and sheets."

evaluate = typer.Typer(no_args_is_help=True, help="Measure models on pictures.")
evaluate.command()(scenes)
evaluate.command()(understanding)
evaluate.command()(benchmark)


class Measuring(Config):
    """What pictures are measured with."""

    features: str = "nano"
    """Networks for the Fréchet distance, comma-separated: inception=WEIGHTS (FID), or encoders, NAME or NAME=DIR."""
    lpips: str = ""
    """Weights of LPIPS: those of VGG16 and of its heads, comma-separated."""
    reader: str = "auto"
    """Text recogniser for data that tells its words: tesseract, rapidocr, auto (what is installed) or none."""
    pixels: str = "exact"
    """Made pictures are measured as they are (exact), rounded to 8 bits, or truncated (as in published evaluations)."""
    split: str = ""
    """Split of shards, e.g. test_pair."""
    batch_size: int = 32
    """Pictures at once; changes memory and speed only."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""


@evaluate.command()
@options_of(Measuring, False)
@shared
def reconstruction(
    data: Annotated[list[str], typer.Argument(help=DATA_HELP)],
    model: Annotated[
        str | None,
        typer.Option(help="Autoencoders, comma-separated: directories or hub ids.", show_default="bundled nano one"),
    ] = None,
    num: Annotated[int, typer.Option(help=NUM_HELP)] = 1000,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    **options: Any,
) -> None:
    """How well autoencoders give pictures back: PSNR, SSIM, LPIPS, rFID and its kin, words read, cost."""
    from raekit.autoencoder.base import load_autoencoder
    from raekit.device import pick_device
    from raekit.evaluate.pictures import Pictures, open_pictures
    from raekit.evaluate.reconstruction import evaluate_reconstruction

    settings = _measuring(options, out)
    instruments = _instruments(settings)
    report = None
    for name, directory in _named(model).items():
        autoencoder = load_autoencoder(directory, pick_device(settings.device))
        datasets = open_pictures(data, autoencoder.output_size, settings.split or None)
        pictures = Pictures(datasets, num, settings.batch_size)
        with progress_bar(name, len(pictures)) as progress:
            one = evaluate_reconstruction(autoencoder, pictures, instruments, progress, name)
        report = one if report is None else report.beside(one)
    if report is not None:
        show_report([column.name for column in report.columns], report, out)


@evaluate.command()
@options_of(Measuring, False)
@options_of(Sampling, guidance="--guidance-kind", guidance_scale=("--guidance-scale", "--guidance"))
@shared
def generation(
    data: Annotated[list[str], typer.Argument(help=DATA_HELP + " Their captions are the prompts.")],
    model: Annotated[
        str | None, typer.Option(help="A generator's directory.", show_default="bundled nano model")
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(help="Autoencoders whose decoders to compare, comma-separated.", show_default="the model's own"),
    ] = None,
    num: Annotated[int, typer.Option(help=NUM_HELP)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the first picture; the next have seed+1, ...")] = 0,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    **options: Any,
) -> None:
    """How good decoders are on generated latents: the same latents for all, beside real pictures."""
    from raekit.autoencoder.base import load_autoencoder
    from raekit.device import pick_device
    from raekit.evaluate.generation import evaluate_generation
    from raekit.evaluate.pictures import Pictures, open_pictures
    from raekit.generate import load_generator

    settings = _measuring(options, out)
    sampling = {name: options[name] for name in Sampling.model_fields if options[name] is not None}
    generator = load_generator(model, settings.device)
    if decoder is None:
        decoders = {"its own": generator.latent_space}
    else:
        device = pick_device(settings.device)
        decoders = {name: load_autoencoder(path, device) for name, path in _named(decoder).items()}
    size = max(each.output_size for each in decoders.values())
    pictures = Pictures(open_pictures(data, size, settings.split or None), num, settings.batch_size)
    with progress_bar("drawing", len(pictures)) as progress:
        report = evaluate_generation(
            generator, decoders, pictures, _instruments(settings), seed=seed, sampling=sampling, progress=progress
        )
    show_report([column.name for column in report.columns], report, out)


def _measuring(options: dict[str, Any], out: Path | None) -> Measuring:
    """The options that were typed, over the defaults; a place that cannot be written is found now and not later."""
    if out is not None:
        check_out(out)
    given = {name: options[name] for name in Measuring.model_fields if options[name] is not None}
    return Measuring(**given)


def _instruments(settings: Measuring) -> Instruments:
    from raekit.device import pick_device
    from raekit.evaluate.figures import PIXELS, Instruments
    from raekit.losses.perceptual import LPIPS
    from raekit.metrics.features import build_features
    from raekit.metrics.readers import INSTALL, build_reader
    from raekit.registry import nearest_hint

    if settings.pixels not in PIXELS:
        raise UserError(f"pixels: unknown rule {settings.pixels!r}; {nearest_hint(settings.pixels, list(PIXELS))}")
    lpips = None
    if settings.lpips:
        files = _split(settings.lpips)
        if len(files) != 2:
            raise UserError(
                f"lpips: {settings.lpips!r} names {len(files)} files; give VGG16's and its heads', VGG,HEADS"
            )
        lpips = LPIPS.from_files(*files).to(pick_device(settings.device))
    reader = build_reader(settings.reader)
    if reader is None and settings.reader == "auto":
        typer.echo(f"no text recogniser here, so no words are read; {INSTALL}", err=True)
    features = build_features(_split(settings.features), pick_device(settings.device))
    return Instruments(features, lpips, reader, settings.pixels)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _named(models: str | None) -> dict[str, str | None]:
    """Models by the last part of their path, or by the whole of it where two would be the same."""
    if models is None:
        return {"nano": None}
    listed = _split(models)
    last = [Path(path).name for path in listed]
    return {path if last.count(name) > 1 else name: path for name, path in zip(last, listed, strict=True)}
