"""The small encoder that ships with the package, so that everything works without a model hub.

In: image ``[B,3,H,W]`` in [0,1]. Out: tokens of a SigLIP vision tower that ``recipes/nano/encoder.yaml`` trained and
stored in the transformers layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

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

    def __init__(self, config: Config, *, backbone: Any | None = None) -> None:
        with _named():
            super().__init__(config, backbone=backbone)

    @classmethod
    def outline(cls, config: EncoderConfig) -> Self:
        """As any encoder's; the sizes are those of the tower in ``config.path``."""
        with _named():
            return super().outline(config)


@contextmanager
def _named() -> Iterator[None]:
    """Errors that say where the weights come from."""
    try:
        yield
    except UserError as error:
        hint = "the nano encoder comes from `raekit train recipes/nano/encoder.yaml`"
        raise error if hint in str(error) else UserError(f"{error}; {hint}") from None
