"""Networks that turn a picture into one vector, so that a Fréchet distance can compare sets of pictures.

In: images ``[B,3,H,W]`` in [0,1]. Out: features ``[B,D]``. Inception's (:mod:`raekit.metrics.inception`) make the FID;
the mean over any registered encoder's tokens serves where its weights are not at hand, and sees what Inception misses
(Stein et al. 2023 argue for DINOv2). Distances in different networks have different scales.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from raekit import config
from raekit.config import component, validate
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.errors import UserError
from raekit.registry import nearest_hint

INCEPTION = "inception"

EXACT = {"precision": "fp32", "resize": "bicubic_antialias"}
"""Settings of encoders that measure: nothing depends on the device, and pictures are resized as their processors do."""

if TYPE_CHECKING:
    EncoderChoice = EncoderConfig
else:
    EncoderChoice = component(ENCODERS)


class FeatureNetwork(nn.Module, ABC):
    """A frozen network from images to one vector each.

    Attributes:
        metric: what a Fréchet distance of its features is called: ``fid``, ``fd_nano``, ...
        width: ``D``.
    """

    metric: str
    width: int

    @property
    @abstractmethod
    def source(self) -> str:
        """Where its weights came from, for the report."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Features ``[B,D]`` of images ``[B,3,H,W]`` in [0,1], without gradients."""


class TokenMean(FeatureNetwork):
    """The mean over an encoder's tokens, after its final norm as its settings say.

    Args:
        config: which encoder.
        encoder: one that is already loaded; built from the config otherwise.
    """

    class Config(config.Config):
        """Which encoder."""

        name: Literal["tokens"] = "tokens"
        encoder: EncoderChoice
        """Any registered encoder."""

    def __init__(self, config: Config, encoder: RepresentationEncoder | None = None) -> None:
        super().__init__()
        self.encoder: RepresentationEncoder = encoder or ENCODERS.build(config.encoder)
        self.width = self.encoder.width
        self.metric = f"fd_{config.encoder.model_dump()['name']}"

    @property
    def source(self) -> str:
        """The encoder's directory or hub id, with its revision."""
        found = self.encoder.fingerprint()
        return "@".join(filter(None, (found["source"], found["revision"])))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Features ``[B,D]``: tokens ``[B,N,D]`` averaged over ``N``."""
        tokens: Tensor = self.encoder(image)
        return tokens.float().mean(dim=1)


def build_features(names: Iterable[str], device: torch.device | str = "cpu") -> dict[str, FeatureNetwork]:
    """Feature networks by the name of their distance: ``fid``, ``fd_nano``, ...

    Args:
        names: each ``inception=PATH``, an encoder's name, or ``NAME=PATH`` for an encoder's directory or hub id.
        device: where they are put.

    Raises:
        UserError: an unknown name, one given twice, or weights that are not there.
    """
    built: dict[str, FeatureNetwork] = {}
    for text in names:
        name, _, path = text.partition("=")
        network = _build(name, path or None)
        if network.metric in built:
            raise UserError(f"features: {name!r} is named twice; name each network once")
        built[network.metric] = network.to(device)
    return built


def _build(name: str, path: str | None) -> FeatureNetwork:
    if name == INCEPTION:
        from raekit.metrics.inception import Inception

        return Inception.from_path(path)
    if name not in ENCODERS:
        raise UserError(f"features: unknown network {name!r}; {nearest_hint(name, [INCEPTION, *ENCODERS])}")
    encoder = {"name": name, **EXACT} | ({} if path is None else {"path": path})
    settings: TokenMean.Config = validate(TokenMean.Config, {"encoder": encoder}, f"features {name!r}")
    return TokenMean(settings)
