"""``raekit evaluate DATA``: how well an autoencoder gives pictures back.

In: a folder of pictures or shards. Out: PSNR on standard output, and a JSON report where one is asked for. Measuring
generations (FID and its kin, prompt alignment) is not built yet, and says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    data: Annotated[Path, typer.Argument(help="A folder of pictures, or of shards that `raekit prepare` wrote.")],
    what: Annotated[str, typer.Option(help="reconstruction; generation is not built yet.")] = "reconstruction",
    model: Annotated[
        Path | None, typer.Option(help="An autoencoder's directory; by default the bundled nano one.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the shards, e.g. test_pair.")] = None,
    num: Annotated[int, typer.Option(help="Most pictures to measure.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Write the report here as JSON.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Measure an autoencoder's reconstructions."""
    from raekit.data.dataset import build_dataset, pictures_of
    from raekit.errors import UserError
    from raekit.evaluate import evaluate_reconstruction
    from raekit.reconstruct import load_autoencoder

    if what != "reconstruction":
        raise UserError(f"what: {what!r} is not built yet; only `--what reconstruction` is")
    rae = load_autoencoder(model, device)
    report = evaluate_reconstruction(rae, build_dataset(pictures_of(data, split, rae.output_size)), num)
    typer.echo(f"psnr {report.psnr:.2f} dB +- {report.psnr_standard_error:.2f}, {report.num_images} pictures")
    typer.echo(f"{report.images_per_second:.0f} images/s, {report.num_skipped} unreadable pictures skipped")
    if out is not None:
        report.save(out)
        typer.echo(f"wrote {out}")
