"""Latent spaces that are distributions: what the published VAEs and the small KL-VAE trained here share.

In: image ``[B,3,H,W]`` in [0,1]. A network gives each image a Gaussian over its own latents ``[B,c,H/f,W/f]``; p x p of
these cells make one token, so that the latent ``[B,c p^2,h,w]`` has as many tokens as an RAE's (FLUX at 256 px: 16
channels on 32 x 32 cells, 256 tokens of 64; Scale-RAE, section 4). Then statistics, as everywhere. Out: the latent,
and back.

``encode`` gives the mean. The published VAE generators are trained on draws of the posterior instead: ``posterior:
sample`` makes ``encode_sample`` such a draw, with the noise of the training sample it is for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raekit import config
from raekit.autoencoder import artefact
from raekit.autoencoder.base import PURPOSE_POSTERIOR, Autoencoder, NoiseSource
from raekit.autoencoder.latent import LatentStatistics, StreamingStatistics, to_grid, to_tokens
from raekit.data.transforms import check_image
from raekit.encoders.base import RESIZES
from raekit.errors import UserError


@dataclass(frozen=True)
class Posterior:
    """A Gaussian with diagonal covariance for each image, fp32.

    Attributes:
        mean: ``[B,c,H/f,W/f]``.
        log_var: natural logarithm of the variance, same shape.
    """

    mean: Tensor
    log_var: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation, same shape."""
        return torch.exp(0.5 * self.log_var)

    def sample(self, noise: NoiseSource) -> Tensor:
        """One draw, same shape, differentiable (Kingma and Welling 2014, section 2.4)."""
        return self.mean + self.std * noise.normal(PURPOSE_POSTERIOR, self.mean.shape[1:]).to(self.mean.device)

    def divergence(self) -> Tensor:
        """KL divergence from N(0, 1), nats a number of the latent, mean over the batch: a scalar."""
        return 0.5 * (self.mean.square() + self.log_var.exp() - 1 - self.log_var).mean()


class VariationalConfig(config.Config):
    """What these latent spaces' settings share."""

    input_size: int = Field(256, gt=0)
    """Side, pixels, to which images are resized; also the side of decoded images."""
    patch_size: int = Field(2, gt=0)
    """Cells per side that make one token: 2 turns FLUX's 16 x 32 x 32 into 64 x 16 x 16."""
    posterior: Literal["mean", "sample"] = "mean"
    """What generators are trained on: the posterior's mean, or a draw of it at each step (published)."""
    resize: Literal["bicubic", "bicubic_antialias", "bilinear", "bilinear_antialias"] = "bicubic_antialias"
    """Filter for images of another size."""
    statistics: Literal["per_channel", "per_position", "none"] = "none"
    """Form of the latent normalisation; ``none`` leaves what the network itself comes with (FLUX, SDXL: one shift and
    one scale for all)."""


class Variational(Autoencoder):
    """A latent space with a posterior. Subclasses say which network has it, and store that network or its name.

    Args:
        config: size, tokens, statistics.
        channels: ``c``, of a cell.
        cell: ``f``, side of a cell in pixels.
        statistics: in place of those that change nothing.

    Raises:
        UserError: images that cannot be cut into whole tokens.
    """

    def __init__(
        self, config: VariationalConfig, channels: int, cell: int, statistics: LatentStatistics | None = None
    ) -> None:
        super().__init__()
        self.config = config
        token = cell * config.patch_size
        if config.input_size % token:
            raise UserError(
                f"autoencoder.input_size: {config.input_size} must be a multiple of {token}, the side of a token "
                f"({config.patch_size} cells of {cell} px)"
            )
        self._shape = (channels * config.patch_size**2, config.input_size // token, config.input_size // token)
        self.statistics = statistics or LatentStatistics.identity(self._shape[0])

    @abstractmethod
    def posterior(self, image: Tensor) -> Posterior:
        """Of images ``[B,3,S,S]`` in [0,1]; ``S`` is ``config.input_size``."""

    @abstractmethod
    def draw(self, cells: Tensor) -> Tensor:
        """Images ``[B,3,S,S]``, nominally in [0,1], of the network's own latents ``[B,c,S/f,S/f]``."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """What the artefact stores of the network, by name."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(c p^2, h, w)`` of a latent."""
        return self._shape

    @property
    def output_size(self) -> int:
        """Side of a decoded image, pixels."""
        size: int = self.config.input_size
        return size

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.statistics.mean.device

    @property
    def is_sampled(self) -> bool:
        """Whether :meth:`encode_sample` draws from the posterior."""
        return bool(self.config.posterior == "sample")

    def encode(self, image: Tensor) -> Tensor:
        """Latent ``[B,C,h,w]`` of the posterior's mean, normalised; images of another size are resized."""
        return self.statistics.normalise(self.to_latent(self.posterior(self.resize(image)).mean))

    def encode_sample(self, image: Tensor, noise: NoiseSource) -> Tensor:
        """A draw of the posterior where the config says so, else :meth:`encode`."""
        if not self.is_sampled:
            return self.encode(image)
        return self.statistics.normalise(self.to_latent(self.posterior(self.resize(image)).sample(noise)))

    def decode(self, latent: Tensor) -> Tensor:
        """Image ``[B,3,S,S]``, nominally in [0,1] but not clamped."""
        return self.draw(self.to_cells(self.statistics.denormalise(latent)))

    def to_latent(self, cells: Tensor) -> Tensor:
        """The network's latents ``[B,c,S/f,S/f]`` as one vector a token: ``[B,c p^2,h,w]``, order (channel, row,
        column)."""
        return to_grid(to_tokens(cells, self.config.patch_size))

    def to_cells(self, latent: Tensor) -> Tensor:
        """Inverse of :meth:`to_latent`."""
        return to_grid(to_tokens(latent), self.config.patch_size)

    def resize(self, image: Tensor) -> Tensor:
        """``[B,3,S,S]`` in [0,1]; an image of the right size is left as it is.

        Raises:
            UserError: no images in [0, 1].
        """
        check_image(image)
        size = (self.output_size, self.output_size)
        if image.shape[-2:] == size:
            return image
        return F.interpolate(image, size=size, align_corners=False, **RESIZES[self.config.resize]).clamp(0, 1)

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[Tensor]) -> None:
        """Set the statistics from one pass over batches of images ``[B,3,H,W]``, in the form the config names.

        They are those of what generators are trained on: for draws, the posterior's own variance is added.
        """
        form = self.config.statistics
        if form == "none":
            return
        means, variances = StreamingStatistics(), StreamingStatistics()
        for image in images:
            posterior = self.posterior(self.resize(image))
            means.update(self.to_latent(posterior.mean))
            variances.update(self.to_latent(posterior.std.square()))
        self.statistics = means.finish(form).to(self.device)
        if self.is_sampled:
            self.statistics.var += variances.finish(form).mean.to(self.device)

    def save(
        self, directory: Path, dtype: torch.dtype = torch.float32, trained: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write the artefact; arguments and errors as :meth:`Autoencoder.save`."""
        weights = self.weights()
        if unknown := sorted((trained or {}).keys() - weights.keys()):
            raise ValueError(f"save: {unknown[0]} is no weight of this latent space")
        tensors = {key: value.to(dtype) for key, value in (weights | dict(trained or {})).items()}
        tensors |= {f"statistics.{key}": value for key, value in self.statistics.state_dict().items()}
        self.checksum = artefact.write(Path(directory), self._identity(dtype), tensors)

    def _identity(self, dtype: torch.dtype) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {
            "config": self.config.model_dump(mode="json"),
            "latent": {"shape": list(self.shape), "form": self.statistics.form, "eps": self.statistics.eps},
            "image": {"size": self.output_size, "range": [0, 1]},
            "dtype": str(dtype).removeprefix("torch."),
        }


def stored_statistics(identity: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LatentStatistics:
    """The statistics of an artefact that :meth:`Variational.save` wrote."""
    return LatentStatistics(tensors["statistics.mean"], tensors["statistics.var"], eps=identity["latent"]["eps"])
