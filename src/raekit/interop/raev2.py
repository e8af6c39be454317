"""RAEv2's decoders and statistics: the files of RAE, for latents that are sums of encoder layers.

In: ``model.pt`` and ``stat.pt``. Out: our autoencoder, and back. Decoder and statistics have RAE's layout; only the
encoder differs, and no file says which of its layers were summed, so ``--encoder`` must (arXiv 2605.18324: K = 7 of
DINOv3-L is every second layer up to the last, in our counting from one ``layers: [12, 14, 16, 18, 20, 22, 24]``).
"""

from __future__ import annotations

from typing import Literal

from raekit.autoencoder.decoder import ViTDecoder
from raekit.errors import UserError
from raekit.interop.decoder import NOTE
from raekit.interop.format import ConvertConfig, Source
from raekit.interop.published_decoder import Company, PublishedDecoder


class RAEv2Decoder(PublishedDecoder):
    """Decoders and statistics of RAEv2, whose latents are sums of layers."""

    TAU = 0.8

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["raev2"] = "raev2"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Only by the note of our own exports: from outside it is RAE's layout, so say ``--format raev2``."""
        return bool(source.keys) and source.settings.get(NOTE, {}).get("format") == "raev2"

    def company(self, source: Source, decoder: ViTDecoder) -> Company:
        """As for RAE, with an encoder whose layers are stated.

        Raises:
            UserError: they are not.
        """
        company = super().company(source, decoder)
        if company.encoder.layers is None:
            raise UserError(
                "convert: an RAEv2 decoder reads a sum of encoder layers that its file does not name; state them, as "
                "in --encoder '{name: dinov3, size: large, layers: [-13, -11, -9, -7, -5, -3, -1]}'"
            )
        return company
