"""The VAEs of FLUX.1 and SDXL as diffusers stores them: ``AutoencoderKL`` directories.

In: such a directory, e.g. the folder ``vae`` of a downloaded pipeline. Out: our ``vae`` artefact, which names the
weights by place and digest and leaves them where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from raekit.autoencoder.vae import VAE
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Rows


class DiffusersVAE(Format):
    """AutoencoderKL directories of diffusers: the VAEs of FLUX.1 and SDXL."""

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["diffusers_vae"] = "diffusers_vae"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """By the class that ``config.json`` names."""
        return source.settings.get("_class_name") == "AutoencoderKL"

    def read(self, source: Source, target: Path) -> Rows:
        """AutoencoderKL to our latent space of 256 px, with the published shift and scale."""
        directory = source.path if source.path.is_dir() else source.path.parent
        vae = VAE(VAE.Config(model=str(directory.absolute())))
        vae.save(target)
        return [
            ("tensors", f"{len(vae.network.state_dict())}, every key accounted for; they stay in {directory}"),
            ("latent", f"{list(vae.shape)} of {vae.output_size} px"),
            ("checksum", vae.checksum[:12]),
        ]
