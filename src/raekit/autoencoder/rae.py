"""The representation autoencoder: a frozen encoder, latent statistics and a trained decoder as one latent space.

In: image ``[B,3,H,W]`` in [0,1]. Out: latent ``[B,C,h,w]`` of zero mean and unit variance, and back to an image. Only
the decoder is trained; noise enters between encoder and decoder, and only in stage 1 (RAE, sections 3 and 4.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from raekit import config
from raekit.autoencoder import artefact
from raekit.autoencoder.base import NoiseSource, Trainable
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import (
    LatentStatistics,
    NoiseLaw,
    StreamingStatistics,
    add_noise,
    noise_sigma,
    to_grid,
    to_tokens,
)
from raekit.autoencoder.resolution import Resolution, fit_patch
from raekit.checkpoint import load_strict
from raekit.config import component, validate
from raekit.encoders import ENCODERS
from raekit.encoders.base import RUNTIME_SETTINGS, EncoderConfig, RepresentationEncoder
from raekit.errors import UserError

PURPOSE_SIGMA, PURPOSE_EPS = range(2)
"""Uses of a sample's random numbers in :meth:`RAE.redraw`."""

if TYPE_CHECKING:
    EncoderChoice = EncoderConfig
else:
    EncoderChoice = component(ENCODERS)


class RAE(Trainable):
    """Representation autoencoder: frozen encoder, latent statistics, trained decoder.

    Args:
        config: what it is made of.
        encoder: an encoder that is already loaded; built from the config otherwise.
        decoder: a decoder; a fresh one otherwise.
        statistics: of the raw latents; identity until :meth:`fit_statistics` otherwise.
    """

    class Config(config.Config):
        """A latent space as a recipe states it."""

        name: Literal["rae"] = "rae"
        encoder: EncoderChoice
        """The frozen encoder."""
        decoder: ViTDecoder.Config = ViTDecoder.Config()
        """The trained decoder."""
        tau: float = Field(default=0.8, ge=0)
        """Largest noise level of stage 1 (paper: tau), in units of the encoder's tokens; 0 turns noise off."""
        noise_law: NoiseLaw = "uniform"
        """How a sample's noise level follows from ``tau``: ``uniform`` (published code) or ``half_normal`` (paper)."""
        statistics: Literal["per_position", "per_channel", "none"] = "per_position"
        """Form of the latent normalisation."""
        output_size: int | None = Field(default=None, gt=0)
        """Side of a decoded image, pixels: the encoder's grid times ``decoder.patch_size``. Given alone it sets that
        patch (16 x 16 tokens: 224 is patch 14, 256 patch 16, 512 patch 32); given with it, the two must agree."""

    def __init__(
        self,
        config: Config,
        *,
        encoder: RepresentationEncoder | None = None,
        decoder: ViTDecoder | None = None,
        statistics: LatentStatistics | None = None,
    ) -> None:
        super().__init__()
        self.encoder: RepresentationEncoder = encoder or ENCODERS.build(config.encoder)
        self.decoder = decoder or _build_decoder(config, self.encoder)
        self.statistics = statistics or LatentStatistics.identity(self.encoder.width)
        self.config = config.model_copy(update={"encoder": self.encoder.config, "decoder": self.decoder.config})
        _check_parts(self)

    @classmethod
    def outline(cls, config: Config) -> Self:
        """See :meth:`Trainable.outline`; the encoder's sizes are known without the hub."""
        encoder = ENCODERS[config.encoder.model_dump()["name"]].outline(config.encoder)
        with torch.device("meta"):
            return cls(config, encoder=encoder).to("meta")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of a latent."""
        return (self.encoder.width, self.encoder.grid, self.encoder.grid)

    @property
    def output_size(self) -> int:
        """Side of a decoded image, pixels; it may differ from the encoder's input size."""
        return self.decoder.output_size

    @property
    def resolution(self) -> Resolution:
        """The sizes on the way from pixels to pixels."""
        return Resolution(
            self.encoder.input_size, self.encoder.patch_size, self.decoder.patch_size, self.decoder.output_size
        )

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.statistics.mean.device

    @property
    def last_layer(self) -> Tensor:
        """Of the decoder."""
        return self.decoder.last_layer

    def encode(self, image: Tensor) -> Tensor:
        """Latent ``[B,C,h,w]``, normalised; images of another size are resized by the encoder."""
        return self.statistics.normalise(to_grid(self.encode_tokens(image)))

    def decode(self, latent: Tensor) -> Tensor:
        """Image ``[B,3,S,S]``, nominally in [0,1] but not clamped."""
        return self.decode_tokens(to_tokens(self.statistics.denormalise(latent)))

    def encode_tokens(self, image: Tensor) -> Tensor:
        """Raw tokens ``[B,N,C]``, as the decoder takes them and stage 1 adds noise to them."""
        tokens: Tensor = self.encoder(image)
        return tokens

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Image ``[B,3,S,S]`` of raw tokens, brought from the encoder's pixel scale to [0,1]."""
        pixels: Tensor = self.decoder(tokens)
        return pixels * self.encoder.image_std + self.encoder.image_mean

    def trained(self) -> dict[str, nn.Module]:
        """The decoder alone: the encoder is frozen."""
        return {"decoder": self.decoder}

    def precompute(self, image: Tensor) -> Tensor:
        """Raw tokens ``[B,N,C]``."""
        return self.encode_tokens(image)

    def redraw(self, start: Tensor, noise: NoiseSource | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The picture of raw tokens, which receive noise of a random level first (RAE, section 4.3)."""
        if noise is not None and self.config.tau:
            law = self.config.noise_law
            draw = noise.uniform(PURPOSE_SIGMA) if law == "uniform" else noise.normal(PURPOSE_SIGMA)
            eps = noise.normal(PURPOSE_EPS, start.shape[1:])
            start = add_noise(start, noise_sigma(law, self.config.tau, draw), eps)
        return self.decode_tokens(start), {}

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[Tensor]) -> None:
        """Set the statistics from one pass over batches of images ``[B,3,H,W]``, in the form the config names."""
        if self.config.statistics == "none":
            return
        stream = StreamingStatistics()
        for image in images:
            stream.update(to_grid(self.encode_tokens(image)))
        self.statistics = stream.finish(self.config.statistics).to(self.device)

    def save(
        self, directory: Path, dtype: torch.dtype = torch.float32, trained: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write the artefact: everything but the encoder's weights, which it names by their digest.

        Args:
            directory: replaced as a whole, or left as it was.
            dtype: of the stored decoder weights (the statistics stay float32).
            trained: weights ``decoder.*`` to store in place of the module's own, such as their moving average.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        weights = {f"decoder.{key}": value for key, value in self.decoder.state_dict().items()} | dict(trained or {})
        tensors = {key: value.to(dtype) for key, value in weights.items()}
        tensors |= {f"statistics.{key}": value for key, value in self.statistics.state_dict().items()}
        self.checksum = artefact.write(Path(directory), self._identity(dtype), tensors)

    @classmethod
    def load(
        cls,
        directory: str | Path | None = None,
        device: str | torch.device = "cpu",
        encoder: RepresentationEncoder | None = None,
    ) -> RAE:
        """The latent space of an artefact.

        Args:
            directory: what :meth:`save` wrote: a directory, here or one that ships, or a hub id; by default the bundled
                nano latent space.
            device: where to put it.
            encoder: an encoder that is already loaded, if the stored path of its weights is not valid here.

        Raises:
            UserError: a damaged artefact, or an encoder other than the one it was made with.
        """
        directory = artefact.locate(directory)
        identity, tensors = artefact.read(directory)
        settings = validate(cls.Config, identity["config"], f"autoencoder {str(directory)!r}")
        if encoder is None:
            encoder = ENCODERS.build(_inside(directory, settings.encoder))
        _check_encoder(identity["encoder"], _encoder_identity(encoder), encoder.depth, directory)
        groups = {
            group: {k.removeprefix(group): v for k, v in tensors.items() if k.startswith(group)}
            for group in ("decoder.", "statistics.")
        }
        statistics = LatentStatistics(**groups["statistics."], eps=identity["latent"]["eps"])
        model = cls(settings, encoder=encoder, statistics=statistics)
        load_strict(model.decoder, groups["decoder."], f"autoencoder {str(directory)!r}")
        model.checksum = identity["checksum"]
        return model.to(device)

    def _identity(self, dtype: torch.dtype) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json", exclude={"encoder": set(RUNTIME_SETTINGS)}),
            "encoder": _encoder_identity(self.encoder),
            "latent": {"shape": list(self.shape), "form": self.statistics.form, "eps": self.statistics.eps},
            "image": {"size": self.output_size, "range": [0, 1]},
            "dtype": str(dtype).removeprefix("torch."),
        }


def _build_decoder(config: RAE.Config, encoder: RepresentationEncoder) -> ViTDecoder:
    """A fresh decoder of the encoder's tokens, whose patch gives the output size that the config asks for."""
    asked, default = config.decoder.patch_size, config.decoder.shape.patch_size
    patch_size = fit_patch(encoder.grid, asked, config.output_size, default)
    return ViTDecoder(config.decoder.model_copy(update={"patch_size": patch_size}), encoder.width, encoder.grid)


def _check_parts(rae: RAE) -> None:
    """Raise a :class:`UserError` that names both parts if decoder or statistics are of another latent space."""
    encoder, decoder, statistics = rae.encoder, rae.decoder, rae.statistics
    made = f"the encoder gives {encoder.grid} x {encoder.grid} tokens of {encoder.width} channels"
    made += f" ({encoder.input_size} px, patch {encoder.patch_size})"
    if decoder.grid != encoder.grid and not decoder.config.resize_grid:
        raise UserError(
            f"decoder: made for {decoder.grid} x {decoder.grid} tokens, but {made}; "
            f"set encoder.input_size to {decoder.grid * encoder.patch_size}, or decoder.resize_grid"
        )
    if decoder.embed.in_features != encoder.width:
        raise UserError(
            f"decoder: made for {decoder.embed.in_features} channels, but {made}; give the encoder it was made for"
        )
    if statistics.mean.shape not in ((encoder.width, 1, 1), rae.shape):
        raise UserError(
            f"statistics: {list(statistics.mean.shape)} do not fit the latent grid {list(rae.shape)}: {made}; "
            "give those of this encoder and input size"
        )
    fit_patch(decoder.grid, decoder.patch_size, rae.config.output_size, decoder.patch_size)


def _inside(directory: Path, encoder: EncoderConfig) -> EncoderConfig:
    """Settings whose ``path`` may be a folder of the artefact itself, so that both move together."""
    path = directory / (encoder.path or "")
    return encoder.model_copy(update={"path": str(path)}) if encoder.path and path.is_dir() else encoder


def _encoder_identity(encoder: RepresentationEncoder) -> dict[str, Any]:
    """The weights and every setting that changes the tokens."""
    settings = {"input_size": encoder.input_size, "resize": encoder.config.resize, "norm": encoder.config.norm}
    # Of one layer, sum and mean are the same.
    merge = "sum" if len(encoder.layers) == 1 and encoder.config.merge == "mean" else encoder.config.merge
    return {**encoder.fingerprint(), **settings, "layers": list(encoder.layers), "merge": merge}


def _check_encoder(stored: Mapping[str, Any], found: Mapping[str, Any], depth: int, directory: Path) -> None:
    """Raise a :class:`UserError` that names both encoders if they would give other tokens."""
    # Artefacts from before layers could be chosen are of the last one.
    stored = {"layers": [depth], "merge": "sum", **stored}
    decisive = ("sha256", "input_size", "resize", "norm", "layers", "merge")
    if all(stored[key] == found[key] for key in decisive):
        return

    def describe(encoder: Mapping[str, Any]) -> str:
        source = "@".join(filter(None, (encoder["source"], encoder["revision"])))
        layers = f"layers {encoder['layers']} by {encoder['merge']}"
        settings = f"{encoder['input_size']} px, resize {encoder['resize']}, norm {encoder['norm']}, {layers}"
        return f"{encoder['name']} {source} (sha256 {encoder['sha256'][:12]}, {settings})"

    raise UserError(
        f"autoencoder {str(directory)!r}: made with encoder {describe(stored)}, found {describe(found)}; "
        "give the encoder it was made with"
    )
