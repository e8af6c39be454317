"""The small encoder that ships with the package, so that everything works without a model hub.

In: image ``[B,3,H,W]`` in [0,1]. Out: tokens of a SigLIP vision tower that ``recipes/nano/encoder.yaml`` trained and
stored in the transformers layout.
"""

from __future__ import annotations

from typing import Literal

from raekit.encoders.base import EncoderConfig
from raekit.encoders.siglip2 import SigLIP2
from raekit.errors import UserError

BUNDLED = "models/nano/encoder"


class NanoEncoder(SigLIP2):
    """A SigLIP tower of a few million parameters, bundled."""

    class Config(EncoderConfig):
        """How images enter the bundled tower."""

        name: Literal["nano"] = "nano"
        path: str | None = BUNDLED
        """Directory of the tower, relative to the package; a training run may name its own."""

    def __init__(self, config: Config) -> None:
        try:
            super().__init__(config)
        except UserError as error:
            raise UserError(f"{error}; the nano encoder comes from `raekit train recipes/nano/encoder.yaml`") from None
