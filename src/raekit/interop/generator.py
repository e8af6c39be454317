"""Published class-conditional generators, as ours and back.

In: the ``stage2_model.pt`` of RAE's generators (DiT-DH or LightningDiT, of any size and resolution) and our artefact of
the latent space they live in. Out: a generator's directory; and back. It draws as published unless told otherwise: 50
points of the published time grid, unguided. Those that a language model conditions are read whole
(:mod:`raekit.interop.scale_rae_model`); the head alone is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from raekit import generator_files
from raekit.autoencoder.base import Autoencoder, load_autoencoder
from raekit.backbones.dit_dh import DiTDH
from raekit.conditioning.label import LabelConditioner
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.generate import ClassToImage, ImageGenerator, load_generator
from raekit.interop.decoder import WEIGHTS_FILE
from raekit.interop.dit import LABELS, LAYOUTS, Generator, dit_from, export_dit
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Rows
from raekit.samplers.settings import Sampling

SIGNATURE = "t_embedder.mlp.0.weight"
"""End of a key that every published generator has."""

AS_PUBLISHED = Sampling(steps=50, sampler="euler", time_grid="rae_published", guidance_scale=1.0)
"""How RAE draws without guidance (RAE memo, section 6.4): the 50 are points, so the model runs 49 times."""


class PublishedGenerator(Format):
    """Class-conditional generators of RAE: DiT-DH and LightningDiT."""

    OURS = generator_files.FORMAT
    READS = frozenset({"autoencoder"})

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["dit"] = "dit"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """By the embedding of the time."""
        return any(key.endswith(SIGNATURE) for key in source.keys)

    def read(self, source: Source, target: Path) -> Rows:
        """A published generator to ours."""
        ledger = source.ledger
        published = dit_from(ledger.tensors, source=ledger.source)
        ledger.take_under("")
        if LAYOUTS[published.layout].condition != LABELS or published.condition is None:
            raise UserError(
                f"convert: {str(source.path)!r} is a {published.layout} without the language model that tells it what "
                "to draw; convert the directory of the whole model, only class-conditional generators stand alone"
            )
        autoencoder, latent_space = stated_latent_space(self.config, published)
        settings = labelled_settings(published, AS_PUBLISHED)
        state = {"table.weight": published.condition}
        checksum = write_generator(target, settings, published, state, (autoencoder, latent_space.checksum))
        return [*ledger.rows(), *generator_rows(published), sampling_row(AS_PUBLISHED), ("checksum", checksum[:12])]

    def write(self, source: Path, target: Path) -> Rows:
        """Our class-conditional generator to the published ``model.pt``."""
        generator = load_generator(source)
        if not isinstance(generator, ClassToImage):
            raise UserError(
                f"convert: {str(source)!r} takes {generator.prompt_kind}; only class-conditional generators have a "
                "published layout of their own, so name --format diffusers_pipeline"
            )
        published = as_published(generator)
        with atomic_directory(target) as folder:
            written = export_dit(published, folder / WEIGHTS_FILE)
        return [("written", f"{written} tensors"), *generator_rows(published)]


def labelled_settings(
    published: Generator, sampling: Sampling, condition: LabelConditioner.Config | None = None
) -> ImageGenerator.Config:
    """Settings of a class-conditional generator whose label table is in ``published``.

    Args:
        published: the generator.
        sampling: how it draws unless told otherwise.
        condition: of the labels, if more is known than the table shows.
    """
    assert published.condition is not None, "a class-conditional generator has a label table"
    rows, width = published.condition.shape
    condition = condition or LabelConditioner.Config(num_classes=rows - 1, width=width)
    return ImageGenerator.Config(backbone=published.backbone.config, condition=condition, sampling=sampling)


def as_published(generator: ClassToImage) -> Generator:
    """Our class-conditional generator as RAE's class of it."""
    layout = "rae_ddt" if isinstance(generator.backbone, DiTDH) else "rae_lightning_dit"
    table: Tensor = generator.conditioner.state_dict()["table.weight"]
    return Generator(generator.backbone, layout, table)  # type: ignore[arg-type]


def stated_latent_space(config: ConvertConfig, published: Generator) -> tuple[Path, Autoencoder]:
    """The directory of the latent space that the options name, and the latent space.

    Raises:
        UserError: none is named, or one of another shape than the generator was trained in.
    """
    if config.autoencoder is None:
        raise UserError("convert: a generator needs the latent space it was trained in; name it with --autoencoder")
    latent_space = load_autoencoder(config.autoencoder)
    found, needed = latent_space.shape, published.backbone.latent_shape
    if found != needed:
        raise UserError(
            f"convert: the generator was trained on latents {list(needed)}, but {str(config.autoencoder)!r} has "
            f"{list(found)}; name its own latent space with --autoencoder"
        )
    return config.autoencoder, latent_space


def write_generator(
    target: Path,
    settings: ImageGenerator.Config,
    published: Generator,
    condition: Mapping[str, Tensor],
    latent_space: tuple[Path, str],
) -> str:
    """Write a generator's directory and return its checksum; no second copy of a large model is built on the way.

    Args:
        target: the directory.
        settings: of the generator.
        published: its backbone.
        condition: state of its conditioner.
        latent_space: directory and checksum of its latent space.
    """
    tensors = {f"backbone.{key}": value for key, value in published.backbone.state_dict().items()}
    tensors |= {f"conditioner.{key}": value for key, value in condition.items()}
    return generator_files.write(target, settings.model_dump(mode="json"), tensors, *latent_space)


def generator_rows(published: Generator) -> Rows:
    """What a generator is, for the report."""
    config, count = published.backbone.config, sum(p.numel() for p in published.backbone.parameters())
    size = config.size if config.width is None else "of its own size"
    shape = ", ".join(f"{field} {value}" for field, value in config.shape._asdict().items())
    has_table = published.backbone.config.has_position_table
    return [
        ("layout", published.layout if has_table else f"{published.layout}, without a position table"),
        ("backbone", f"{config.name} {size}: {shape}"),
        ("latent", str(list(published.backbone.latent_shape))),
        ("parameters", f"{count / 1e6:.1f} M"),
    ]


def sampling_row(sampling: Sampling) -> tuple[str, str]:
    """How it draws unless told otherwise, for the report."""
    text = f"as published: {sampling.steps} points of {sampling.time_grid}, {sampling.sampler}, unguided"
    return ("sampling", f"{text}; with --sampler euler --time-grid linear the steps go from noise to data")
