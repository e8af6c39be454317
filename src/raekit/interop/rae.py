"""The official RAE collection: decoders, their statistics, and which encoder each belongs to.

In: a decoder's ``model.pt`` by itself, its folder in a mirror of the collection, or the mirror's root and a folder's
name; there the encoder and the statistics are found by the folders' names. Out: our autoencoder, and back.

    decoders/dinov2/wReg_base/ViTXL_n08/model.pt        stats/dinov2/wReg_base/imagenet1k/stat.pt
    decoders/dinov2/wReg_base/ViTXL_n08_i512/model.pt   stats/dinov2/wReg_base/imagenet1k_512/stat.pt

The collection is not consistent in its capitals (``imagenet1k``, ``ImageNet1k``), so they are not looked at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raekit.autoencoder.decoder import ViTDecoder
from raekit.checkpoint import name_some
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.interop.decoder import NOTE, WEIGHTS_FILE
from raekit.interop.format import ConvertConfig, Source
from raekit.interop.ledger import Rows
from raekit.interop.published_decoder import STATISTICS_FILE, PublishedDecoder

DECODERS, STATISTICS = "decoders", "stats"


@dataclass(frozen=True)
class Published:
    """An encoder whose decoders are in the collection.

    Attributes:
        settings: as a recipe states it.
        width: channels of its tokens.
        patch_size: side of its patches, pixels; the input size follows from the decoder's grid.
    """

    settings: dict[str, Any]
    width: int
    patch_size: int


ENCODERS_OF = {
    "dinov2/wreg_small": Published({"name": "dinov2", "size": "small"}, 384, 14),
    "dinov2/wreg_base": Published({"name": "dinov2", "size": "base"}, 768, 14),
    "dinov2/wreg_large": Published({"name": "dinov2", "size": "large"}, 1024, 14),
    "mae/base_p16": Published({"name": "mae", "size": "base"}, 768, 16),
    "siglip2/base_p16_i256": Published({"name": "siglip2", "size": "base"}, 768, 16),
}
"""Folder below ``decoders/`` and ``stats/``, in small letters, to the encoder."""


class RAECollection(PublishedDecoder):
    """Decoders and statistics of RAE (the official collection)."""

    READS = PublishedDecoder.READS | {"decoder"}
    TAU = 0.8

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["rae"] = "rae"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """A decoder's weights without the ``config.json`` of another layout, or a mirror of the collection."""
        if not source.keys:
            return source.path.is_dir() and child(source.path, DECODERS) is not None
        is_decoder = any(key.removeprefix("decoder.") == "decoder_embed.weight" for key in source.keys)
        layout = source.settings.get(NOTE, {}).get("format", "another" if source.settings else "rae")
        return is_decoder and layout == "rae"

    def read(self, source: Source, target: Path) -> Rows:
        """Published decoder, alone or in a mirror of the collection, to our autoencoder."""
        root = child(source.path, DECODERS) if source.path.is_dir() else None
        if root is None:
            if self.config.decoder is not None:
                raise UserError(f"convert: --decoder names a folder below {DECODERS}/, {str(source.path)!r} has none")
            return super().read(source, target)
        return super().read(Source(self._folder(root)), target)

    def encoder_of(self, source: Source, decoder: ViTDecoder) -> tuple[EncoderConfig, str]:
        """By the folder in the collection, else by the width of the tokens where only one published encoder has it."""
        place = place_of(source.file)
        if place is not None and place.encoder in ENCODERS_OF:
            found, origin = [ENCODERS_OF[place.encoder]], "by the folder of its decoder"
        else:
            width = decoder.embed.in_features
            found = [row for row in ENCODERS_OF.values() if row.width == width]
            origin = f"the only published one with {width} channels"
        if len(found) != 1:
            named = ", ".join(f"{row.settings['name']} {row.settings['size']}" for row in found) or "no published one"
            raise UserError(
                f"convert: {str(source.path)!r} was made for {decoder.embed.in_features} channels, which {named} has; "
                "name its encoder with --encoder"
            )
        settings = found[0].settings | {"input_size": decoder.grid * found[0].patch_size}
        encoder: EncoderConfig = ENCODERS[settings["name"]].Config.model_validate(settings)
        return encoder, origin

    def statistics_of(self, source: Source, decoder: ViTDecoder) -> Path | None:
        """Beside the decoder, else where the collection keeps them.

        Raises:
            UserError: the decoder lies in a mirror that lacks its statistics.
        """
        place = place_of(source.file)
        beside = super().statistics_of(source, decoder)
        if beside is not None or place is None:
            return beside
        names = [STATISTICS, *place.encoder.split("/"), place.data_of(decoder.output_size), STATISTICS_FILE]
        path: Path | None = place.root
        for name in names:
            path = None if path is None else child(path, name)
        if path is None:
            raise UserError(
                f"convert: no {'/'.join(names)} in {str(place.root)!r}; copy it there, or name it with --statistics"
            )
        return path

    def _folder(self, root: Path) -> Path:
        """The decoder's folder that the options name, below ``decoders/``."""
        found: Path | None = root
        for name in (self.config.decoder or "").strip("/").split("/"):
            found = None if found is None or not name else child(found, name)
        if found is None or not (found / WEIGHTS_FILE).is_file():
            known = [str(path.parent.relative_to(root)) for path in root.rglob(WEIGHTS_FILE)]
            what = "no decoder was named" if self.config.decoder is None else f"no decoder {self.config.decoder!r}"
            raise UserError(f"convert: {what}; --decoder takes one of {name_some(known) or 'nothing: there is none'}")
        return found


@dataclass(frozen=True)
class Place:
    """Where a file lies in a mirror of the collection.

    Attributes:
        root: of the mirror.
        encoder: key of :data:`ENCODERS_OF`, if the collection has it.
    """

    root: Path
    encoder: str

    def data_of(self, output_size: int) -> str:
        """The folder of the statistics for decoders of an output size, in pixels."""
        return f"imagenet1k_{output_size}" if output_size == 512 else "imagenet1k"


def place_of(file: Path) -> Place | None:
    """Where a decoder's file lies in a mirror: ``ROOT/decoders/FAMILY/VARIANT/...``; None outside of one."""
    # Not resolved: the hub's cache consists of links, which lead out of the mirror.
    path = Path(os.path.abspath(file))
    for number, part in enumerate(path.parts):
        below = path.parts[number + 1 :]
        if part.lower() == DECODERS and len(below) > 2:
            return Place(Path(*path.parts[:number]), "/".join(below[:2]).lower())
    return None


def child(folder: Path, name: str) -> Path | None:
    """What ``folder`` has of that name, whatever the capitals."""
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name.lower()), None)
