"""diffusers' AutoencoderRAE: one directory with encoder, decoder and latent statistics.

In: ``config.json`` and ``diffusion_pytorch_model.safetensors``. Out: our autoencoder, its encoder in a directory of its
own beside it (or the stated one, if it is the same); and back. Verified against diffusers 0.42 for DINOv2 and MAE.

What this layout cannot hold is refused or, with ``--lossy``, measured: diffusers computes the decoder's position table
and ignores a stored one, although the published decoders trained theirs, and on another grid than 16 x 16 its table is
not the published code's. What it does otherwise is converted (:mod:`raekit.interop.statistics`): it divides latents by
``std + 1e-5`` where its published ``std`` is ``sqrt(var + 1e-5)`` already, so that its latents are smaller than those
of the official files, by a factor of 1.00001 where ``std`` is 1. Each file's latents stay what that file makes them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from raekit.autoencoder import artefact
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.rae import RAE
from raekit.encoders import ENCODERS
from raekit.encoders.base import RepresentationEncoder
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.interop.decoder import CONFIG_FILE, DIFFUSERS, POSITION, decoder_to, take_decoder
from raekit.interop.diffusers_encoder import (
    FINAL_NORM_UNUSED,
    KINDS,
    Kind,
    check_same,
    encoder_to,
    hub_name,
    kind_of,
    stated_settings,
    write_encoder,
)
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Ledger, Rows
from raekit.interop.published_decoder import assemble, autoencoder_rows, describe_encoder, load_rae
from raekit.interop.statistics import diffusers_statistics, is_identity, take_statistics

CLASS_NAME, VERSION = "AutoencoderRAE", "0.42.1"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
ENCODER_FOLDER = "encoder"
"""Beside our artefact's own files."""
BASE_GRID = 16
"""Tokens along a side for which diffusers computes the published position table."""

DEFAULTS: dict[str, Any] = {
    "encoder_type": "dinov2",
    "encoder_patch_size": 14,
    "encoder_num_hidden_layers": 12,
    "decoder_num_attention_heads": 16,
    "encoder_input_size": 224,
    "noise_tau": 0.0,
    "reshape_to_2d": True,
    "scaling_factor": 1.0,
}
"""Settings that an import reads, with the values that an absent one has in diffusers."""

SIGLIP2_BROKEN = (
    "diffusers 0.42 cannot build siglip2 under transformers 5: 'SiglipVisionModel' object has no attribute "
    "'vision_model'; these names are for transformers 4"
)


class DiffusersRAE(Format):
    """AutoencoderRAE directories of diffusers, encoder included."""

    OURS = artefact.FORMAT
    READS = frozenset({"encoder", "tau"})
    WRITES = frozenset({"lossy", "encoder_names"})

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["diffusers"] = "diffusers"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """By the class that ``config.json`` names."""
        return source.settings.get("_class_name") == CLASS_NAME

    def read(self, source: Source, target: Path) -> Rows:
        """AutoencoderRAE to our autoencoder, with its encoder below it unless the options name the same one."""
        settings = _checked(source)
        ledger, kind = source.ledger, KINDS[settings["encoder_type"]]
        decoder, notes = _take_decoder(ledger, settings)
        statistics = take_statistics(ledger, settings["scaling_factor"])
        tau = settings["noise_tau"] if self.config.tau is None else self.config.tau
        pixels = ledger.take(("encoder_mean", "encoder_std"))
        tensors = _take_encoder(ledger, kind)
        report = ledger.rows()
        with tempfile.TemporaryDirectory() as scratch, atomic_directory(target) as folder:
            inside = Path(scratch) / ENCODER_FOLDER
            write_encoder(kind, tensors, settings["encoder_num_hidden_layers"], inside)
            encoder, row = self._encoder(kind, inside, settings["encoder_input_size"])
            _check_pixels(encoder, pixels, ledger.source)
            rae = assemble(encoder, decoder, None if is_identity(statistics) else statistics, tau, ledger.source)
            rae.save(folder)
            if self.config.encoder is None:
                write_encoder(kind, tensors, settings["encoder_num_hidden_layers"], folder / ENCODER_FOLDER)
        return [*report, ("encoder", row), *notes, *autoencoder_rows(rae)]

    def write(self, source: Path, target: Path) -> Rows:
        """Our autoencoder to AutoencoderRAE."""
        rae = load_rae(source)
        kind = kind_of(rae.encoder)
        loss = self._loss(rae)
        encoder = encoder_to(kind, rae.encoder, self.config.encoder_names)
        statistics = diffusers_statistics(rae.statistics)
        decoder = {key: value for key, value in decoder_to(rae.decoder, DIFFUSERS).items() if key != POSITION}
        tensors = {
            "encoder_mean": rae.encoder.image_mean.cpu().clone(),
            "encoder_std": rae.encoder.image_std.cpu().clone(),
            **statistics,
            **{f"encoder.{key}": value for key, value in encoder.items()},
            **{f"decoder.{key}": value for key, value in decoder.items()},
        }
        with atomic_directory(target) as folder:
            save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
            text = json.dumps(_settings(rae, kind, statistics))
            (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        return [
            ("written", f"{len(tensors)} tensors"),
            ("left out", f"{kind.final_norm}.weight, {kind.final_norm}.bias of the encoder: {FINAL_NORM_UNUSED}"),
            ("left out", f"{POSITION}: {loss}"),
            *self._encoder_rows(rae, kind),
            *autoencoder_rows(rae),
        ]

    def _encoder(self, kind: Kind, inside: Path, input_size: int) -> tuple[RepresentationEncoder, str]:
        """The encoder that the artefact names, and what the report says of it."""
        found: RepresentationEncoder = ENCODERS.build(
            ENCODERS[kind.type].Config(**stated_settings(kind, inside, input_size))
        )
        if self.config.encoder is None:
            found.config = found.config.model_copy(update={"path": ENCODER_FOLDER})
            return found, f"{describe_encoder(found)} (written there)"
        stated: RepresentationEncoder = ENCODERS.build(self.config.encoder)
        kind_of(stated)
        check_same(stated, found, "convert")
        return stated, f"{describe_encoder(stated)} (as stated, and the same weights)"

    def _loss(self, rae: RAE) -> str:
        """What becomes of the position table, in words.

        Raises:
            UserError: it differs from the one that diffusers computes, and the options do not allow a loss.
        """
        if _has_computed_table(rae.decoder):
            return "diffusers computes the same"
        difference = decoded_difference(rae)
        if not self.config.lossy:
            raise UserError(
                "convert: diffusers ignores a stored position table and computes one, which is not this decoder's; "
                f"decoded pixels would differ by up to {difference:.1e} of 1; write it nonetheless with --lossy"
            )
        return f"diffusers computes another; decoded pixels differ by up to {difference:.1e} of 1"

    def _encoder_rows(self, rae: RAE, kind: Kind) -> Rows:
        rows = [("encoder", f"{describe_encoder(rae.encoder)}, written with it")]
        if kind.type == "siglip2":
            return [*rows, ("note", SIGLIP2_BROKEN), ("note", "head.*: zeros; no latent comes from the pooling head")]
        if self.config.encoder_names == "installed":
            import transformers

            rows.append(("note", f"encoder keys as transformers {transformers.__version__} names them"))
        if rae.config.encoder.resize != "bicubic":
            size = rae.encoder.input_size
            rows.append(("note", f"diffusers resizes by bicubic without antialias; give it images of {size} px"))
        return rows


def decoded_difference(rae: RAE) -> float:
    """Largest difference of a decoded pixel between a decoder's own position table and the computed one.

    Both decode one latent drawn from the standard normal distribution, with a fixed seed.
    """
    latent = torch.randn(1, *rae.shape, generator=torch.Generator().manual_seed(0))
    own = rae.decoder.position
    with torch.no_grad():
        wanted = rae.decode(latent)
        rae.decoder.position = _table_of(rae.decoder)
        found = rae.decode(latent)
    rae.decoder.position = own
    return float((wanted - found).abs().max())


def computed_table(width: int, grid: int) -> Tensor:
    """The position table ``[1,1+N,width]`` that diffusers computes.

    That of :func:`raekit.layers.embeddings.sincos_2d`, but the positions run from 0 to 16 on any grid, where the
    published code counts cells; only 16 x 16 gives the same.
    """
    positions = torch.arange(grid, dtype=torch.float32) / (grid / BASE_GRID)
    rows, columns = (axis.reshape(-1, 1) for axis in torch.meshgrid(positions, positions, indexing="ij"))
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    halves = [torch.cat((angle.sin(), angle.cos()), dim=1) for angle in (columns * omega, rows * omega)]
    return F.pad(torch.cat(halves, dim=1).float(), (0, 0, 1, 0)).unsqueeze(0)


def _table_of(decoder: ViTDecoder) -> Tensor:
    return computed_table(decoder.config.shape.width, decoder.grid)


def _has_computed_table(decoder: ViTDecoder) -> bool:
    return torch.allclose(decoder.position, _table_of(decoder), rtol=0, atol=1e-6)


def _take_decoder(ledger: Ledger, settings: dict[str, Any]) -> tuple[ViTDecoder, Rows]:
    """The decoder, with the file's position table or else the computed one, and notes for the report."""
    grid = settings["encoder_input_size"] // settings["encoder_patch_size"]
    decoder = take_decoder(ledger, "decoder.", settings["decoder_num_attention_heads"], grid)
    if f"decoder.{POSITION}" not in ledger.tensors:
        decoder.position.copy_(_table_of(decoder))
        return decoder, []
    if _has_computed_table(decoder):
        return decoder, []
    return decoder, [("note", f"decoder.{POSITION} is the file's; diffusers would ignore it and compute another")]


def _checked(source: Source) -> dict[str, Any]:
    """The settings, defaults filled in.

    Raises:
        UserError: one that our autoencoder cannot follow.
    """
    settings = DEFAULTS | {key: value for key, value in source.settings.items() if value is not None}
    for key, known in (("encoder_type", tuple(KINDS)), ("reshape_to_2d", (True,))):
        if settings[key] not in known:
            raise UserError(f"convert: {key} is {settings[key]!r} in {str(source.path)!r}; only {known} is supported")
    return settings


def _take_encoder(ledger: Ledger, kind: Kind) -> dict[str, Tensor]:
    """The encoder's tensors by the hub's names, without what is unused."""
    unused = {**kind.unused, f"{kind.final_norm}.": FINAL_NORM_UNUSED}
    names = {key: hub_name(kind, key.removeprefix("encoder.")) for key in ledger.tensors if key.startswith("encoder.")}
    for key, name in names.items():
        for part, reason in unused.items():
            if name.startswith(part):
                ledger.leave_out(key, reason)
    taken = ledger.take(key for key in names if key not in ledger.left_out)
    return {names[key]: value for key, value in taken.items()}


def _check_pixels(encoder: RepresentationEncoder, pixels: dict[str, Tensor], source: str) -> None:
    """Raise UserError if the encoder standardises pixels otherwise than the file says."""
    for key, own in (("encoder_mean", encoder.image_mean), ("encoder_std", encoder.image_std)):
        if not torch.equal(pixels[key].float().reshape(-1), own.reshape(-1)):
            found = [round(float(value), 6) for value in pixels[key].reshape(-1)]
            raise UserError(f"{source}: {key} is {found}, this encoder's {own.reshape(-1).tolist()}; name its encoder")


def _settings(rae: RAE, kind: Kind, statistics: dict[str, Tensor]) -> dict[str, Any]:
    """``config.json``; statistics that are one number each are read from the weights instead."""
    shape = rae.decoder.config.shape
    lists: dict[str, Any] = {key.removeprefix("_"): value.tolist() for key, value in statistics.items()}
    if all(value.numel() == 1 for value in statistics.values()):
        lists = dict.fromkeys(lists)
    return {
        "_class_name": CLASS_NAME,
        "_diffusers_version": VERSION,
        "encoder_type": kind.type,
        "encoder_hidden_size": rae.encoder.width,
        "encoder_patch_size": rae.encoder.patch_size,
        "encoder_num_hidden_layers": rae.encoder.depth,
        "encoder_input_size": rae.encoder.input_size,
        "encoder_norm_mean": rae.encoder.image_mean.reshape(-1).tolist(),
        "encoder_norm_std": rae.encoder.image_std.reshape(-1).tolist(),
        "decoder_hidden_size": shape.width,
        "decoder_num_hidden_layers": shape.depth,
        "decoder_num_attention_heads": shape.heads,
        "decoder_intermediate_size": shape.mlp_width,
        "patch_size": shape.patch_size,
        "image_size": rae.output_size,
        "num_channels": 3,
        "noise_tau": rae.config.tau,
        "reshape_to_2d": True,
        "use_encoder_loss": False,
        "scaling_factor": 1.0,
        **lists,
    }
