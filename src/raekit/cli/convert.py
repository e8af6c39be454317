"""``raekit convert FROM TO``: published weights to our artefacts, and back.

In: published weights (or one of our directories) and what their files do not say. Out: the other layout, and a report
of what became of every key. Which layout FROM has shows in its contents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raekit.cli.options import options_of
from raekit.cli.report import print_rows
from raekit.config import Config
from raekit.errors import UserError


class Options(Config):
    """What may be said on the command line; :class:`raekit.interop.format.ConvertConfig` says what it means."""

    format: str | None = None
    """The published layout, of FROM or of TO; `raekit list formats` names them."""
    encoder: str | None = None
    """A decoder's encoder, as a recipe states it: dinov2, or '{name: dinov2, size: base}'."""
    statistics: str | None = None
    """A decoder's latent statistics, e.g. stat.pt; none: its tokens are used as they are."""
    decoder: str | None = None
    """In a mirror of the RAE collection, the decoder's folder: dinov2/wReg_base/ViTXL_n08."""
    heads: int | None = None
    """A decoder's attention heads, if its size is not a known one."""
    tau: float | None = None
    """The noise level a decoder was trained with."""
    autoencoder: str | None = None
    """A generator's latent space, a directory of ours."""
    reply: str | None = None
    """What a Scale-RAE model writes ahead of a picture (default: it is asked)."""
    lossy: bool | None = None
    """Write a layout that cannot hold everything, and say what is lost."""
    encoder_names: Literal["installed", "hub"] | None = None
    """For diffusers: encoder keys of the installed transformers, or of the hub's older files."""


@options_of(Options, default=False)
def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="Weights, their directory, or one of ours.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="The directory (or .safetensors file) to write.")],
    **stated: Any,
) -> None:
    """Convert published weights to our layout, or ours to a published one."""
    import yaml

    from raekit.config import validate
    from raekit.interop.convert import convert as convert_weights
    from raekit.interop.format import ConvertConfig

    values = {name: value for name, value in stated.items() if value is not None}
    try:
        values |= {"encoder": yaml.safe_load(values["encoder"])} if "encoder" in values else {}
    except yaml.YAMLError:
        raise UserError(
            f"convert: --encoder {values['encoder']!r} is not valid YAML; write '{{name: dinov2}}'"
        ) from None
    print_rows("converted", convert_weights(source, target, validate(ConvertConfig, values, "convert")))
