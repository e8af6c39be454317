"""``raekit convert FROM TO``: published weights to our artefacts, and back.

In: a published decoder or generator (or one of our directories) and what its file does not say. Out: the other layout,
and a report of every key. Which of them FROM is shows in its contents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raekit.cli.report import print_rows


def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A weight file, its directory, or one of ours.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="The directory to write.")],
    encoder: Annotated[
        str | None,
        typer.Option(help="A decoder's encoder, as a recipe states it: dinov2, or '{name: dinov2, size: base}'."),
    ] = None,
    statistics: Annotated[Path | None, typer.Option(help="A decoder's latent statistics, e.g. stat.pt.")] = None,
    tau: Annotated[float, typer.Option(help="The noise level a decoder was trained with.")] = 0.8,
    autoencoder: Annotated[Path | None, typer.Option(help="A generator's latent space, a directory of ours.")] = None,
) -> None:
    """Convert published weights to our layout, or ours to the published one."""
    import yaml

    from raekit.config import validate
    from raekit.interop.convert import ConvertConfig
    from raekit.interop.convert import convert as convert_weights

    stated = None if encoder is None else yaml.safe_load(encoder)
    values = {"encoder": stated, "statistics": statistics, "tau": tau, "autoencoder": autoencoder}
    print_rows("converted", convert_weights(source, target, validate(ConvertConfig, values, "convert")))
