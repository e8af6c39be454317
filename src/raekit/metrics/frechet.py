"""The Fréchet distance between two sets of pictures, by the features of some network.

In: features ``[B,D]``, batch by batch. Out: :class:`FeatureStatistics`, whose sums are float64 and merge exactly (Chan,
Golub and LeVeque 1983), so that neither the batch size nor the number of processes shows in the result; and the
distance of two of them (Heusel et al. 2017, equation 6). With the features of Inception it is the FID; with any other
network's it is a distance of its own scale, comparable only with itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class FeatureStatistics:
    """Number, mean and covariance of features seen so far.

    Args:
        width: ``D``, numbers per picture.
        device: where the sums are kept.

    Attributes:
        count: pictures seen.
        mean: ``[D]`` float64.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add the features ``[B,D]`` of more pictures; none is allowed."""
        if not len(features):
            return
        values = features.to(self.mean)
        mean = values.mean(dim=0)
        centred = values - mean
        self._merge(len(values), mean, centred.T @ centred)

    def merge(self, other: FeatureStatistics) -> None:
        """Add the pictures that another one has seen, such as another process or another domain."""
        if other.count:
            self._merge(other.count, other.mean.to(self.mean), other._scatter.to(self._scatter))

    @property
    def width(self) -> int:
        """``D``."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """``[D,D]`` float64, unbiased: divided by one less than the number of pictures.

        Raises:
            ValueError: fewer than two pictures.
        """
        if self.count < 2:
            raise ValueError(f"covariance of {self.count} pictures; at least 2 are needed")
        return self._scatter / (self.count - 1)

    @property
    def is_rank_deficient(self) -> bool:
        """Whether there are too few pictures for a covariance of full rank; distances are then biased upwards."""
        return self.count <= self.width

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        delta = mean - self.mean
        self._scatter += scatter + torch.outer(delta, delta) * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance and what is needed to judge it.

    Attributes:
        value: the distance, at least 0.
        width: numbers per picture.
        num_images: pictures on the smaller side.
        is_rank_deficient: too few pictures for the width on one side or both: compare only with distances over the
            same number of pictures.
    """

    value: float
    width: int
    num_images: int
    is_rank_deficient: bool


def distance(real: FeatureStatistics, made: FeatureStatistics) -> Distance:
    """The Fréchet distance between two sets of at least two pictures each."""
    return Distance(
        value=frechet_distance(real.mean, real.covariance, made.mean, made.covariance),
        width=real.width,
        num_images=min(real.count, made.count),
        is_rank_deficient=real.is_rank_deficient or made.is_rank_deficient,
    )


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two Gaussians, in float64 (Heusel et al. 2017, eq. 6).

    ``C1 C2`` has the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``, which is symmetric: the trace of its root is the sum of
    their roots, and no root of a matrix that is not symmetric is needed. Rounding below zero is cut off.

    Args:
        mean_1: ``[D]``.
        covariance_1: ``[D,D]``, symmetric.
        mean_2: ``[D]``.
        covariance_2: ``[D,D]``, symmetric.
    """
    c1, c2 = covariance_1.double(), covariance_2.double()
    values, vectors = torch.linalg.eigh(c1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    common = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    shift = (mean_1.double() - mean_2.double()).square().sum()
    return max(0.0, float(shift + c1.trace() + c2.trace() - 2 * common))
