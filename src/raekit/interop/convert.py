"""From the published layouts to ours and back, whichever of them a path turns out to hold.

In: a path (a published weight file or directory, or one of our artefacts) and what the path itself cannot say, such as
the encoder a decoder belongs to. Out: an artefact or a published file, and rows that say what was converted. Keys are
strict in both directions: one too many or too few is an error that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from raekit import generator_files
from raekit.autoencoder import artefact
from raekit.autoencoder.rae import RAE
from raekit.backbones.dit_dh import DiTDH
from raekit.checkpoint import load_strict
from raekit.conditioning.label import LabelConditioner
from raekit.config import Config, component
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.generate import ClassToImage, ImageGenerator, build_generator, load_generator
from raekit.interop.decoder import export_decoder, export_statistics, import_rae
from raekit.interop.dit import LABELS, LAYOUTS, Generator, export_dit, import_dit
from raekit.interop.files import read_tensors, select
from raekit.samplers.settings import Sampling

if TYPE_CHECKING:
    EncoderChoice = EncoderConfig
else:
    EncoderChoice = component(ENCODERS)

Rows = list[tuple[str, str]]

STATISTICS_FILE = "stat.pt"


class ConvertConfig(Config):
    """What a path by itself does not say."""

    encoder: EncoderChoice | None = None
    """For a published decoder: the frozen encoder it was trained on, as a recipe states it."""
    statistics: Path | None = None
    """For a published decoder: the file of its latent statistics; without one the tokens are used as they are."""
    tau: float = 0.8
    """For a published decoder: the noise level it was trained with (RAE: 0.8, Scale-RAE: 0); stated in the artefact."""
    autoencoder: Path | None = None
    """For a published generator: our artefact of the latent space it was trained in."""


def convert(source: Path, target: Path, config: ConvertConfig) -> Rows:
    """Convert ``source`` to ``target``, out of our layout if it is ours, into it otherwise.

    Args:
        source: a published weight file, the directory of one (with ``model.pt``), or one of our artefacts.
        target: directory of the artefact, or of the published files.
        config: what is needed besides; each converter says what it misses.

    Returns:
        (label, value) rows: what it was, how many tensors, where it went.

    Raises:
        UserError: nothing that can be converted, keys that do not fit, or something missing in ``config``.
    """
    converters = {
        artefact.FORMAT: autoencoder_out,
        generator_files.FORMAT: generator_out,
        "published decoder": decoder_in,
        "published generator": generator_in,
    }
    kind = kind_of(source)
    return [("from", f"{source} ({kind})"), *converters[kind](source, target, config), ("to", str(target))]


def kind_of(source: Path) -> str:
    """What lies at ``source``: the ``format`` of one of our artefacts, or a published decoder or generator.

    Raises:
        UserError: neither.
    """
    own = _own_format(source)
    if own is not None:
        return own
    tensors = read_tensors(_weight_file(source))
    if "decoder_embed.weight" in select(tensors, "decoder."):
        return "published decoder"
    if any("blocks.0." in key for key in tensors):
        return "published generator"
    keys = ", ".join(sorted(tensors)[:3])
    raise UserError(
        f"convert: {str(source)!r} is neither decoder nor generator (first keys: {keys}); name another file"
    )


def decoder_in(source: Path, target: Path, config: ConvertConfig) -> Rows:
    """A published decoder with its encoder and statistics, as our autoencoder."""
    if config.encoder is None:
        raise UserError("convert: a decoder alone is no latent space; say which encoder it belongs to with --encoder")
    rae = import_rae(config.encoder, source, config.statistics, config.tau)
    rae.save(target)
    return [*_autoencoder_rows(rae), ("checksum", rae.checksum[:12])]


def autoencoder_out(source: Path, target: Path, config: ConvertConfig) -> Rows:
    """Our autoencoder, as a published decoder directory with ``stat.pt`` beside it."""
    del config
    rae = RAE.load(source)
    export_decoder(rae.decoder, target)
    if rae.config.statistics != "none":
        export_statistics(rae.statistics, target / STATISTICS_FILE)
    return _autoencoder_rows(rae)


def generator_in(source: Path, target: Path, config: ConvertConfig) -> Rows:
    """A published class-conditional generator, as ours."""
    published = import_dit(_weight_file(source))
    if LAYOUTS[published.layout].condition != LABELS or published.condition is None:
        raise UserError(
            f"convert: {str(source)!r} is a {published.layout}, told by a language model that this version does not "
            "convert; only class-conditional generators are"
        )
    if config.autoencoder is None:
        raise UserError("convert: a generator needs the latent space it was trained in; name it with --autoencoder")
    latent_space = RAE.load(config.autoencoder)
    _check_shapes(published, latent_space, config.autoencoder)
    rows, width = published.condition.shape
    settings = ImageGenerator.Config(
        backbone=published.backbone.config,
        condition=LabelConditioner.Config(num_classes=rows - 1, width=width),
        sampling=Sampling(guidance_scale=1.0),
    )
    generator = build_generator(settings, latent_space)
    load_strict(generator.backbone, published.backbone.state_dict(), str(source))
    load_strict(generator.conditioner, {"table.weight": published.condition}, str(source))
    generator.save(target, config.autoencoder)
    return [*_generator_rows(published), ("checksum", generator.checksum[:12])]


def generator_out(source: Path, target: Path, config: ConvertConfig) -> Rows:
    """Our class-conditional generator, as the published ``model.pt``."""
    del config
    generator = load_generator(source)
    if not isinstance(generator, ClassToImage):
        raise UserError(
            f"convert: {str(source)!r} takes {generator.prompt_kind}; only class-conditional generators have a "
            "published layout of their own"
        )
    layout = "rae_ddt" if isinstance(generator.backbone, DiTDH) else "rae_lightning_dit"
    table: Tensor = generator.conditioner.state_dict()["table.weight"]
    published = Generator(generator.backbone, layout, table)  # type: ignore[arg-type]
    export_dit(published, target / "model.pt")
    return _generator_rows(published)


def _own_format(source: Path) -> str | None:
    """``format`` of our artefact at ``source``; None if it is not ours."""
    path = source / "config.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"convert: {str(path)!r} is not valid JSON ({error}); copy it again") from None
    found = content.get("format") if isinstance(content, dict) else None
    return found if found in (artefact.FORMAT, generator_files.FORMAT) else None


def _weight_file(source: Path) -> Path:
    return source / "model.pt" if source.is_dir() else source


def _check_shapes(published: Generator, latent_space: RAE, directory: Path) -> None:
    found, needed = latent_space.shape, published.backbone.latent_shape
    if found != needed:
        raise UserError(
            f"convert: the generator was trained on latents {list(needed)}, but {str(directory)!r} has {list(found)}; "
            "name its own latent space with --autoencoder"
        )


def _autoencoder_rows(rae: RAE) -> Rows:
    shape = rae.decoder.config.shape
    return [
        ("latent", f"{list(rae.shape)}, statistics {rae.config.statistics}"),
        ("decoder", f"{shape.width} wide, {shape.depth} deep, {shape.heads} heads, {rae.output_size} px out"),
        ("tensors", f"{len(rae.decoder.state_dict())}, every key accounted for"),
    ]


def _generator_rows(published: Generator) -> Rows:
    count = sum(parameter.numel() for parameter in published.backbone.parameters())
    return [
        ("layout", published.layout),
        ("latent", str(list(published.backbone.latent_shape))),
        ("parameters", f"{count / 1e6:.1f} M"),
        ("tensors", f"{len(published.backbone.state_dict())}, every key accounted for"),
    ]
