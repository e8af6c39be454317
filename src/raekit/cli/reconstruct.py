"""``raekit reconstruct IN... --out DIR``: pictures and folders of pictures through a latent space and back.

In: picture files, folders, and an autoencoder. Out: one PNG a picture, their PSNR in ``metrics.jsonl`` and
``metrics.csv``, on request ``sheet.png``; the same command again makes only what is missing. The exit code is 0 if
every picture was reconstructed, 1 if some could not be read (they are listed), 2 for a mistake that left nothing to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raekit.cli.report import counted, progress_bar

MOST_LISTED = 20
"""Unreadable pictures named on standard output; ``metrics.csv`` has them all."""


def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Picture files, and folders to search to any depth.")],
    model: Annotated[
        str | None,
        typer.Option(help="An autoencoder: directory or hub id.", show_default="bundled nano one"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the reconstructions.")] = Path("out/reconstructions"),
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Also write sheet.png: original | reconstruction | difference.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make again what is there already.")] = False,
    batch_size: Annotated[int, typer.Option(help="Pictures at once.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Encode pictures and decode them again."""
    from raekit import reconstruct as library
    from raekit.autoencoder.base import load_autoencoder
    from raekit.device import pick_device
    from raekit.files import make_writable

    make_writable(out, "--out")
    pictures = library.find_pictures(images, out)
    autoencoder = load_autoencoder(model, pick_device(device))
    with progress_bar("reconstructing", len(pictures)) as progress:
        report = library.reconstruct(autoencoder, pictures, out, batch_size, overwrite, progress)
    kept = f", {report.num_kept} of them by an earlier run" if report.num_kept else ""
    typer.echo(f"{counted(len(report.done), 'picture')} reconstructed{kept}: mean PSNR {report.mean_psnr:.2f} dB")
    for row in report.unreadable[:MOST_LISTED]:
        typer.echo(f"left out: {row.error}")
    if sheet:
        typer.echo(library.write_sheet(report, out, autoencoder.output_size))
    typer.echo(out / library.TABLE_FILE)
    if report.unreadable:
        typer.echo(f"{counted(len(report.unreadable), 'unreadable picture')} left out", err=True)
        raise typer.Exit(1)
