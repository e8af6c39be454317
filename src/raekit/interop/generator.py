"""Published class-conditional generators, as ours and back.

In: the ``stage2_model.pt`` of RAE's generators and our artefact of the latent space they live in. Out: a generator's
directory; and back. Those that a language model conditions (Scale-RAE) are recognised and refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from raekit import generator_files
from raekit.autoencoder.base import Autoencoder, load_autoencoder
from raekit.backbones.dit_dh import DiTDH
from raekit.checkpoint import load_strict
from raekit.conditioning.label import LabelConditioner
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.generate import ClassToImage, ImageGenerator, build_generator, load_generator
from raekit.interop.decoder import WEIGHTS_FILE
from raekit.interop.dit import LABELS, LAYOUTS, Generator, dit_from, export_dit
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Rows
from raekit.samplers.settings import Sampling

SIGNATURE = "t_embedder.mlp.0.weight"
"""End of a key that every published generator has."""


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
                f"convert: {str(source.path)!r} is a {published.layout}, told by a language model that this version "
                "does not convert; only class-conditional generators are"
            )
        if self.config.autoencoder is None:
            raise UserError("convert: a generator needs the latent space it was trained in; name it with --autoencoder")
        latent_space = load_autoencoder(self.config.autoencoder)
        _check_shapes(published, latent_space, self.config.autoencoder)
        rows, width = published.condition.shape
        settings = ImageGenerator.Config(
            backbone=published.backbone.config,
            condition=LabelConditioner.Config(num_classes=rows - 1, width=width),
            sampling=Sampling(guidance_scale=1.0),
        )
        generator = build_generator(settings, latent_space)
        load_strict(generator.backbone, published.backbone.state_dict(), ledger.source)
        load_strict(generator.conditioner, {"table.weight": published.condition}, ledger.source)
        generator.save(target, self.config.autoencoder)
        return [*ledger.rows(), *_rows(published), ("checksum", generator.checksum[:12])]

    def write(self, source: Path, target: Path) -> Rows:
        """Our class-conditional generator to the published ``model.pt``."""
        generator = load_generator(source)
        if not isinstance(generator, ClassToImage):
            raise UserError(
                f"convert: {str(source)!r} takes {generator.prompt_kind}; only class-conditional generators have a "
                "published layout of their own"
            )
        layout = "rae_ddt" if isinstance(generator.backbone, DiTDH) else "rae_lightning_dit"
        table: Tensor = generator.conditioner.state_dict()["table.weight"]
        published = Generator(generator.backbone, layout, table)  # type: ignore[arg-type]
        with atomic_directory(target) as folder:
            export_dit(published, folder / WEIGHTS_FILE)
        return _rows(published)


def _check_shapes(published: Generator, latent_space: Autoencoder, directory: Path) -> None:
    found, needed = latent_space.shape, published.backbone.latent_shape
    if found != needed:
        raise UserError(
            f"convert: the generator was trained on latents {list(needed)}, but {str(directory)!r} has {list(found)}; "
            "name its own latent space with --autoencoder"
        )


def _rows(published: Generator) -> Rows:
    count = sum(parameter.numel() for parameter in published.backbone.parameters())
    return [
        ("layout", published.layout),
        ("latent", str(list(published.backbone.latent_shape))),
        ("parameters", f"{count / 1e6:.1f} M"),
        ("tensors", f"{len(published.backbone.state_dict())}, every key accounted for"),
    ]
