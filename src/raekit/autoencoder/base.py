"""What a latent space is, whichever network makes it: the contract that RAE, FLUX / SDXL VAE and the nano KL-VAE share.

In: image ``[B,3,H,W]`` in [0,1]. Out: latent ``[B,C,h,w]`` of about zero mean and unit variance, and back. Generators,
metrics and verbs see only this class, so that two generators can differ by the latent space and by nothing else. What
stage 1 needs of a latent space that can be trained stands below, apart: :class:`Trainable`.

Randomness is never inside: where a latent space has any, the caller brings a :class:`NoiseSource`, whose numbers belong
to the samples, so that no result depends on how a batch is cut.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from raekit.autoencoder import AUTOENCODERS, artefact
from raekit.errors import UserError
from raekit.registry import UnknownName

PURPOSE_POSTERIOR = 100
"""Use of a sample's random numbers by :meth:`Autoencoder.encode_sample`; clear of those of the training stages."""


class NoiseSource(Protocol):
    """Random numbers that belong to the samples of a batch (see :mod:`raekit.training.draws`)."""

    def uniform(self, purpose: int) -> Tensor:
        """``[B]`` in [0, 1)."""

    def normal(self, purpose: int, shape: Sequence[int] = ()) -> Tensor:
        """``[B, *shape]`` standard normal."""


class Autoencoder(nn.Module, ABC):
    """A latent space.

    Attributes:
        config: its settings, ``name`` among them.
        checksum: of the artefact it was saved to or loaded from; empty before the first save.
    """

    config: Any
    checksum: str = ""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of a latent."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Side of a decoded image, pixels."""

    @property
    def dim(self) -> int:
        """Numbers in a latent, ``C h w``; the noise schedule's shift follows from it."""
        return math.prod(self.shape)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its weights lie, and where images and latents must."""

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Latent ``[B,C,h,w]``, normalised, the same every time; images of another size are resized."""

    @property
    def is_sampled(self) -> bool:
        """Whether :meth:`encode_sample` is random; its results can then not be computed once and kept."""
        return False

    def encode_sample(self, image: Tensor, noise: NoiseSource) -> Tensor:
        """A latent to train a generator on: :meth:`encode`'s, or a draw where the latent space is a distribution."""
        del noise
        return self.encode(image)

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Image ``[B,3,S,S]``, nominally in [0,1] but not clamped."""

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruction ``[B,3,S,S]``, without noise."""
        return self.decode(self.encode(image))

    @abstractmethod
    def save(
        self, directory: Path, dtype: torch.dtype = torch.float32, trained: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write the artefact and set ``checksum``.

        Args:
            directory: replaced as a whole, or left as it was.
            dtype: of the stored trained weights (statistics stay float32).
            trained: weights to store in place of the module's own, named as in its state, such as their moving average.

        Raises:
            UserError: the disk is full or the place is not writable.
        """

    @classmethod
    @abstractmethod
    def load(cls, directory: Path, device: str | torch.device = "cpu") -> Autoencoder:
        """The latent space of an artefact.

        Raises:
            UserError: a damaged artefact, or a frozen part other than the one it was made with.
        """


class Trainable(Autoencoder):
    """A latent space that stage 1 trains.

    A training step asks for :meth:`precompute` once (what no gradient reaches) and for :meth:`redraw` as often as a
    loss needs the reconstruction.
    """

    @classmethod
    def outline(cls, config: Any) -> Self:
        """The latent space on the meta device: every size and count of it, without a weight or a download."""
        with torch.device("meta"):
            return cls(config)

    @abstractmethod
    def trained(self) -> dict[str, nn.Module]:
        """The modules that learn, by name."""

    @property
    @abstractmethod
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last layer, whose gradient norms balance the losses (RAE, appendix C.2)."""

    @abstractmethod
    def precompute(self, image: Tensor) -> Tensor:
        """What :meth:`redraw` starts from and no gradient reaches, of images ``[B,3,H,W]`` in [0,1]."""

    @abstractmethod
    def redraw(self, start: Tensor, noise: NoiseSource | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstruction ``[B,3,S,S]``, with gradients, and loss terms of the latent space itself by name.

        Args:
            start: what :meth:`precompute` gave.
            noise: of the training; None = the reconstruction without noise.
        """

    @abstractmethod
    def fit_statistics(self, images: Iterable[Tensor]) -> None:
        """Set the latent statistics from one pass over batches of images ``[B,3,H,W]``."""


def load_autoencoder(directory: str | Path | None = None, device: str | torch.device = "cpu") -> Autoencoder:
    """The latent space of a directory, of whatever kind, ready for use.

    Args:
        directory: a directory, here or one that ships, or a hub id; by default the bundled nano one.
        device: where to put it.

    Raises:
        UserError: no artefact there, a damaged one, or a frozen part other than the one it was made with.
    """
    directory = artefact.locate(directory)
    settings = artefact.read_identity(directory).get("config")
    if not isinstance(settings, dict) or "name" not in settings:
        raise UserError(f"autoencoder {str(directory)!r}: its config.json names no kind of latent space; copy it again")
    try:
        kind: type[Autoencoder] = AUTOENCODERS[settings["name"]]
    except UnknownName as error:
        raise UserError(f"autoencoder {str(directory)!r}: {error}; update raekit") from None
    return kind.load(directory, device).eval()
