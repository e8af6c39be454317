"""Scale-RAE's decoders: ``config.json`` and ``model.pt`` in one directory.

In: such a directory. Out: our autoencoder, and back. The decoders were released for SigLIP-2 So400M and WebSSL, at 224
px with 16 x 16 tokens, without latent statistics and without noise (Scale-RAE, section 6 and appendix A).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import LatentStatistics
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.interop.decoder import NOTE
from raekit.interop.format import ConvertConfig, Source
from raekit.interop.published_decoder import PublishedDecoder
from raekit.interop.statistics import export_running_statistics

ENCODERS_OF: dict[int, dict[str, Any]] = {
    1152: {"name": "siglip2", "size": "so400m", "resize": "bilinear_antialias"},
    1024: {"name": "webssl", "size": "300m"},
}
"""Channels of the tokens to the encoder of the release; images enter it as the hub's image processors resize them."""


class ScaleRAEDecoder(PublishedDecoder):
    """Decoders of Scale-RAE: config.json and model.pt."""

    TAU = 0.0

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["scale_rae"] = "scale_rae"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """A decoder's weights with the ``config.json`` of a ViT-MAE decoder beside them."""
        layout = source.settings.get(NOTE, {}).get("format", "scale_rae")
        is_decoder = any(key.removeprefix("decoder.") == "decoder_embed.weight" for key in source.keys)
        return is_decoder and "decoder_hidden_size" in source.settings and layout == "scale_rae"

    def encoder_of(self, source: Source, decoder: ViTDecoder) -> tuple[EncoderConfig, str]:
        """By the width of the tokens, which tells the released encoders apart."""
        width = decoder.embed.in_features
        if width not in ENCODERS_OF:
            return super().encoder_of(source, decoder)
        settings = ENCODERS_OF[width]
        encoder: EncoderConfig = ENCODERS[settings["name"]].Config.model_validate(settings)
        return encoder, f"the released one with {width} channels"

    def write_statistics(self, statistics: LatentStatistics, path: Path) -> None:
        """As running mean and variance of tokens."""
        export_running_statistics(statistics, path)
