"""``raekit reconstruct IMAGE...``: pictures through a latent space and back.

In: picture files and an autoencoder's directory. Out: one sheet, originals above reconstructions, and their PSNR.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    model: Annotated[
        Path | None, typer.Option(help="An autoencoder's directory; by default the bundled nano one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The sheet to write.")] = Path("out/reconstruction.png"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Encode pictures, decode them again, and show both."""
    from raekit.checkpoint import atomic_file
    from raekit.reconstruct import load_autoencoder, reconstruct_files

    result = reconstruct_files(load_autoencoder(model, device), images)
    with atomic_file(out) as temporary:
        result.sheet.save(temporary, format="PNG")
    for path, value in zip(result.paths, result.psnr, strict=True):
        typer.echo(f"{path}: {value:.2f} dB")
    for path in result.skipped:
        typer.echo(f"{path}: unreadable, left out")
    typer.echo(f"wrote {out}" + (f" ({len(result.skipped)} unreadable pictures left out)" if result.skipped else ""))
