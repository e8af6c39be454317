"""Paths between data and noise, and the three ways to say what a network predicts.

**Time.** ``t = 0`` is data, ``t = 1`` is noise, everywhere. On the linear path, the only one that models here are
trained on,

    z_t = (1 - t) z + t eps,        velocity = dz_t/dt = eps - z.

In: clean latent ``z``, noise ``eps``, time ``t``. Out: :class:`PathSample`; conversions between velocity, ``x`` (the
clean latent) and ``eps``. RAE section 3.3, Scale-RAE section 3.2. The other two paths are those the published code
carries beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Prediction = Literal["velocity", "x", "eps"]

SMALLEST_T = 1e-4
"""Floor of the times that conversions divide by; nearer to the end the quotient says nothing."""


class PathSample(NamedTuple):
    """A point of a path and its derivative.

    Attributes:
        z_t: noised latent ``[B, C, h, w]``.
        velocity: ``dz_t/dt``, same shape.
        t: times ``[B]``.
    """

    z_t: Tensor
    velocity: Tensor
    t: Tensor


class Coefficients(NamedTuple):
    """``z_t = alpha z + sigma eps``, and the derivatives of both with respect to ``t``, each in the shape of ``t``."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


def linear(t: Tensor) -> Coefficients:
    """Straight line: ``alpha = 1 - t``, ``sigma = t``."""
    one = torch.ones_like(t)
    return Coefficients(1 - t, t, -one, one)


def gvp(t: Tensor) -> Coefficients:
    """Quarter circle: ``alpha = cos(pi t / 2)``, ``sigma = sin(pi t / 2)``."""
    angle = math.pi / 2 * t
    return Coefficients(angle.cos(), angle.sin(), -math.pi / 2 * angle.sin(), math.pi / 2 * angle.cos())


def vp(t: Tensor) -> Coefficients:
    """Variance-preserving diffusion, betas 0.1 to 20; as published the exponential is called ``sigma``.

    ``sigma = exp(-(1 - t)^2 (20 - 0.1) / 4 - 0.1 (1 - t) / 2)`` and ``alpha = sqrt(1 - sigma^2)``, so ``d_alpha`` is
    infinite at ``t = 1``.
    """
    sigma = (-((1 - t) ** 2) * (20 - 0.1) / 4 - 0.1 * (1 - t) / 2).exp()
    d_sigma = sigma * ((1 - t) * (20 - 0.1) / 2 + 0.1 / 2)
    alpha = (1 - sigma**2).sqrt()
    return Coefficients(alpha, sigma, -sigma * d_sigma / alpha, d_sigma)


PATHS = {"linear": linear, "gvp": gvp, "vp": vp}
"""The paths of the published code. No recipe names one: models here are trained on the linear path."""


def path_sample(
    z: Tensor, eps: Tensor, t: Tensor, coefficients: Callable[[Tensor], Coefficients] = linear
) -> PathSample:
    """The point at time ``t`` of the path from data ``z`` to noise ``eps``.

    Args:
        z: clean latent ``[B, ...]``.
        eps: standard normal noise, shape of ``z``.
        t: times ``[B]`` in [0, 1].
        coefficients: a row of the ``paths`` registry.
    """
    alpha, sigma, d_alpha, d_sigma = coefficients(per_sample(t, z))
    return PathSample(alpha * z + sigma * eps, d_alpha * z + d_sigma * eps, t)


def to_velocity(
    prediction: Prediction, output: Tensor, z_t: Tensor, t: Tensor, smallest_t: float = SMALLEST_T
) -> Tensor:
    """The velocity on the linear path that a network's ``output`` means.

    Args:
        prediction: what ``output`` is.
        output: ``[B, ...]``.
        z_t: noised latent the network saw, shape of ``output``.
        t: times ``[B]``.
        smallest_t: floor of the denominator (``t`` for ``x``, ``1 - t`` for ``eps``).
    """
    t = per_sample(t, z_t)
    convert: dict[Prediction, Callable[[], Tensor]] = {
        "velocity": lambda: output,
        "x": lambda: (z_t - output) / t.clamp(min=smallest_t),
        "eps": lambda: (output - z_t) / (1 - t).clamp(min=smallest_t),
    }
    return convert[prediction]()


def from_velocity(prediction: Prediction, velocity: Tensor, z_t: Tensor, t: Tensor) -> Tensor:
    """The inverse of :func:`to_velocity`: what a network that predicts ``prediction`` would have said; no division."""
    t = per_sample(t, z_t)
    convert: dict[Prediction, Callable[[], Tensor]] = {
        "velocity": lambda: velocity,
        "x": lambda: z_t - t * velocity,
        "eps": lambda: z_t + (1 - t) * velocity,
    }
    return convert[prediction]()


def score(velocity: Tensor, z_t: Tensor, t: Tensor) -> Tensor:
    """Gradient of the log density at ``z_t`` on the linear path, ``-eps / t`` with ``eps = z_t + (1 - t) velocity``."""
    return -from_velocity("eps", velocity, z_t, t) / per_sample(t, z_t).clamp(min=SMALLEST_T)


def per_sample(t: Tensor, like: Tensor) -> Tensor:
    """``t`` ``[B]`` shaped ``[B, 1, ...]`` to broadcast over ``like`` ``[B, ...]``."""
    return t.view(-1, *[1] * (like.ndim - 1))
