"""RAEv2's decoders and statistics: the files of RAE, for latents that are sums of encoder layers.

In: ``model.pt`` and ``stat.pt``. Out: our autoencoder, and back. Decoder and statistics have RAE's layout; only the
encoder differs, and no file says which of its layers were summed, so ``--encoder`` must (arXiv 2605.18324: K = 7 of
DINOv3-L is every second layer up to the last, in our counting from one ``layers: [12, 14, 16, 18, 20, 22, 24]``).

Generators of RAEv2 are refused: what is known of them is in numbers (a trunk 1440 wide and 28 deep, a head of 2 x 2048,
condition tokens in context, a second prediction after block 8, of the clean latent), not in the names of their weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from raekit.autoencoder.decoder import ViTDecoder
from raekit.checkpoint import name_some
from raekit.errors import UserError
from raekit.interop.decoder import NOTE
from raekit.interop.format import ConvertConfig, Source
from raekit.interop.generator import SIGNATURE
from raekit.interop.ledger import Rows
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

    def read(self, source: Source, target: Path) -> Rows:
        """Published decoder to our autoencoder.

        Raises:
            UserError: as for RAE; or a generator.
        """
        if any(key.endswith(SIGNATURE) for key in source.keys):
            raise UserError(
                f"convert: {str(source.path)!r} is a generator ({name_some(source.keys)}), and how RAEv2 names the "
                "weights of its condition tokens in context and of its prediction after block 8 is not known; one in "
                "RAE's own layout is read with --format dit"
            )
        return super().read(source, target)

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
