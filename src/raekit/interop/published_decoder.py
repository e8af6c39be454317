"""A published decoder and its company, as one latent space: what RAE, Scale-RAE and RAEv2 files have in common.

In: the decoder's file, and from the path, the options or the layout: its encoder, its latent statistics and the noise
it was trained with. Out: our autoencoder; and back, as the same files. The encoder's own weights are never part of
these layouts: the artefact names the encoder and its digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from raekit.autoencoder import artefact
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import LatentStatistics
from raekit.autoencoder.rae import RAE
from raekit.config import validate
from raekit.encoders import ENCODERS
from raekit.encoders.base import RUNTIME_SETTINGS, EncoderConfig, RepresentationEncoder
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.interop.decoder import NOTE, check_settings, export_decoder, take_decoder
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Rows
from raekit.interop.statistics import export_statistics, fitted, import_statistics

STATISTICS_FILE = "stat.pt"
FROZEN_ENCODER = "the frozen encoder, which the artefact names instead"


@dataclass(frozen=True)
class Company:
    """What belongs to a decoder without being in its file.

    Attributes:
        encoder: settings of its encoder.
        origin: how these became known, for the report.
        statistics: file of its latent statistics, if it has one.
        tau: noise level of its training.
    """

    encoder: EncoderConfig
    origin: str
    statistics: Path | None
    tau: float


class PublishedDecoder(Format):
    """A decoder as ``model.pt``, with or without ``config.json`` and ``stat.pt`` beside it."""

    OURS = artefact.FORMAT
    READS = frozenset({"encoder", "statistics", "tau", "heads"})
    TAU: ClassVar[float]
    """Noise level of the published decoders of this layout."""

    def read(self, source: Source, target: Path) -> Rows:
        """Published decoder to our autoencoder."""
        ledger = source.ledger
        check_settings(source.settings, ledger.source)
        prefix = "decoder." if "decoder.decoder_embed.weight" in ledger.tensors else ""
        heads = self.config.heads or source.settings.get("decoder_num_attention_heads")
        decoder = take_decoder(ledger, prefix, heads)
        if prefix:
            ledger.leave_out("encoder.", FROZEN_ENCODER)
        report = ledger.rows()
        company = self.company(source, decoder)
        statistics = None if company.statistics is None else import_statistics(company.statistics)
        rae = assemble(ENCODERS.build(company.encoder), decoder, statistics, company.tau, ledger.source)
        rae.save(target)
        return [
            *report,
            ("encoder", f"{describe_encoder(rae.encoder)} ({company.origin})"),
            ("statistics", str(company.statistics or "none: the tokens are used as they are")),
            *autoencoder_rows(rae),
        ]

    def write(self, source: Path, target: Path) -> Rows:
        """Our autoencoder to the published files."""
        rae = load_rae(source)
        encoder = rae.config.encoder.model_dump(mode="json", exclude=set(RUNTIME_SETTINGS))
        with atomic_directory(target) as folder:
            export_decoder(rae.decoder, folder, format=self.name, tau=rae.config.tau, encoder=encoder)
            if rae.config.statistics != "none":
                self.write_statistics(rae.statistics, folder / STATISTICS_FILE)
        return [*autoencoder_rows(rae), ("encoder", f"{describe_encoder(rae.encoder)}, named but not written")]

    def company(self, source: Source, decoder: ViTDecoder) -> Company:
        """Encoder, statistics and noise: as the options say, else our own note in ``config.json``, else the layout.

        Raises:
            UserError: the encoder cannot be known.
        """
        note = source.settings.get(NOTE, {})
        if self.config.encoder is not None:
            encoder, origin = self.config.encoder, "as stated"
        elif "encoder" in note:
            settings = {"encoder": note["encoder"]}
            encoder, origin = validate(ConvertConfig, settings, "config.json").encoder, "as its config.json says"
        else:
            encoder, origin = self.encoder_of(source, decoder)
        tau = note.get("tau", self.TAU) if self.config.tau is None else self.config.tau
        return Company(encoder, origin, self._statistics(source, decoder), tau)

    def encoder_of(self, source: Source, decoder: ViTDecoder) -> tuple[EncoderConfig, str]:
        """The encoder that this layout implies, and why.

        Raises:
            UserError: none.
        """
        raise UserError(
            f"convert: {str(source.path)!r} does not show which encoder its decoder belongs to; say so with --encoder"
        )

    def statistics_of(self, source: Source, decoder: ViTDecoder) -> Path | None:
        """The statistics' file that this layout implies, if it does."""
        del decoder
        beside = source.file.with_name(STATISTICS_FILE)
        return beside if beside.is_file() else None

    def write_statistics(self, statistics: LatentStatistics, path: Path) -> None:
        """As this layout stores them."""
        export_statistics(statistics, path)

    def _statistics(self, source: Source, decoder: ViTDecoder) -> Path | None:
        stated = self.config.statistics
        if stated == "none":
            return None
        return self.statistics_of(source, decoder) if stated is None else Path(stated)


def assemble(
    encoder: RepresentationEncoder, decoder: ViTDecoder, statistics: LatentStatistics | None, tau: float, source: str
) -> RAE:
    """An autoencoder of parts that were made for each other.

    Raises:
        UserError: they were not.
    """
    if (encoder.width, encoder.grid) != (decoder.embed.in_features, decoder.grid):
        raise UserError(
            f"{source}: made for {decoder.grid} x {decoder.grid} tokens of {decoder.embed.in_features} channels, the "
            f"encoder gives {encoder.grid} x {encoder.grid} of {encoder.width}; choose its own with --encoder"
        )
    shape = (encoder.width, encoder.grid, encoder.grid)
    latents = None if statistics is None else fitted(statistics, shape, source)
    form = "none" if latents is None else latents.form
    config = RAE.Config(encoder=encoder.config, decoder=decoder.config, statistics=form, tau=tau)
    return RAE(config, encoder=encoder, decoder=decoder, statistics=latents)


def load_rae(directory: Path) -> RAE:
    """Our artefact, which must be a representation autoencoder: no other has a published layout of its own."""
    name = artefact.read_identity(directory)["config"]["name"]
    if name != "rae":
        raise UserError(f"convert: {str(directory)!r} is a {name}; only a rae has published layouts to be written in")
    return RAE.load(directory)


def autoencoder_rows(rae: RAE) -> Rows:
    """What a latent space is, for the report."""
    shape = rae.decoder.config.shape
    return [
        ("latent", f"{list(rae.shape)}, statistics {rae.config.statistics}, tau {rae.config.tau}"),
        ("decoder", f"{shape.width} wide, {shape.depth} deep, {shape.heads} heads, {rae.output_size} px out"),
        ("checksum", rae.checksum[:12]),
    ]


def describe_encoder(encoder: RepresentationEncoder) -> str:
    """Name, source and input of an encoder, on one line."""
    settings = encoder.config.model_dump()
    source = "@".join(filter(None, (encoder.config.path or encoder.config.hub_id, encoder.revision)))
    layers = f", {settings['merge']} of layers {list(encoder.layers)}" if encoder.config.layers else ""
    return f"{settings['name']} {source}, {encoder.input_size} px, {encoder.grid} x {encoder.grid} tokens{layers}"
