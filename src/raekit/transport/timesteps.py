"""Which times: the dimension shift, the times to train at, the grids to sample on.

In: latent dimension, uniform draws, numbers of steps. Out: times in [0, 1] (0 data, 1 noise). Everything is a pure
function of its arguments, so that training can seed the draws of each sample.

**Shift.** More latent dimensions hide less under the same noise, so times move towards noise by
``t' = a t / (1 + (a - 1) t)``, ``a = sqrt(dim / 4096)``, in training and in sampling alike (RAE section 4.2, Scale-RAE
section 3.2; it is the largest single gain of both papers).

**Published.** Names with ``published``, and the laws that begin with ``rae_``, repeat the released code exactly, quirks
included; use them to compare with released weights. The others are what one would write afresh.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from raekit.errors import UserError

BASE_DIM = 4096
"""Latent dimension at which no shift is needed, ``n`` of the papers."""

RAE_LARGEST_T = 0.999
"""RAE's training times and its sampling grid span [0, 0.999] and [0.001, 1] before the shift."""

RAE_SDE_LAST_STEP = 0.04
"""Length of the last step of RAE's stochastic sampler, and the end of its grid before the shift."""

TimeLaw = Callable[[Tensor], Tensor]
"""Uniform draws ``[B]`` in [0, 1) to unshifted times ``[B]``; a row of the ``timesteps`` registry."""


def time_shift(dim: int, base: int = BASE_DIM) -> float:
    """The shift factor ``a = sqrt(dim / base)`` of a latent with ``dim = C * h * w`` numbers."""
    return math.sqrt(dim / base)


def shift_times(t: Tensor, factor: float) -> Tensor:
    """``a t / (1 + (a - 1) t)`` of times in [0,1], any shape: fixes 0 and 1, and moves towards noise for ``a > 1``."""
    return factor * t / (1 + (factor - 1) * t)


def uniform(draws: Tensor) -> Tensor:
    """All times alike: draws ``[B]`` in [0,1) as they are."""
    return draws


def logit_normal(draws: Tensor) -> Tensor:
    """``sigmoid(N(0, 1))`` ``[B]`` in [0,1], as Scale-RAE trains, from uniform draws ``[B]`` in [0,1)."""
    return sigmoid_of_normal(normal_quantile(draws)).to(draws.dtype)


def rae_uniform(draws: Tensor) -> Tensor:
    """Uniform on [0, 0.999], as released by RAE: ``[B]`` from draws ``[B]`` in [0,1)."""
    return draws * RAE_LARGEST_T


def rae_logit_normal(draws: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """``sigmoid(N(mean, std^2))`` truncated to [0, 0.999] through the inverse distribution, as released by RAE.

    ``[B]`` from uniform draws ``[B]`` in [0,1).
    """
    bound = torch.tensor((math.log(RAE_LARGEST_T / (1 - RAE_LARGEST_T)) - mean) / std, dtype=torch.float64)
    normal = normal_quantile(draws.double() * torch.special.ndtr(bound))
    return sigmoid_of_normal(normal, mean, std).clamp(0, RAE_LARGEST_T).to(draws.dtype)


def sigmoid_of_normal(normal: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Logit-normal times in [0,1] from standard normal draws of the same shape: ``sigmoid(mean + std * normal)``."""
    return (mean + std * normal).sigmoid()


def normal_quantile(probability: Tensor) -> Tensor:
    """The standard normal value below which a fraction ``probability`` in [0,1] lies, float64 of the same shape."""
    quantile: Tensor = torch.special.ndtri(probability.double())
    return quantile


def linear_grid(num_steps: int, factor: float = 1.0) -> Tensor:
    """``num_steps + 1`` times from exactly 1 to exactly 0, evenly spaced before the shift: ``num_steps`` steps.

    Args:
        num_steps: number of steps, at least 1.
        factor: the time shift ``a``.

    Returns:
        ``[num_steps + 1]`` float64, strictly decreasing.

    Raises:
        UserError: no steps.
    """
    if num_steps < 1:
        raise UserError(f"steps: {num_steps} makes no picture; give 1 or more")
    # a / (1 + (a - 1)) may round to the next number above 1
    return shift_times(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), factor).clamp(max=1)


def rae_published_grid(num_steps: int, factor: float = 1.0) -> Tensor:
    """RAE's grid: ``num_steps`` *points*, so one step fewer, from 1 to ``shift(0.001)``; it never reaches data.

    With 50 "steps" the model runs 49 times and the last state still holds 0.7 % noise at ``a = 6.93``.

    Raises:
        UserError: fewer than 2 points, which make no step.
    """
    _needs_points(num_steps, 2)
    return shift_times(1 - torch.linspace(0, RAE_LARGEST_T, num_steps, dtype=torch.float64), factor)


def scale_rae_published_grid(num_steps: int, factor: float = 1.0) -> Tensor:
    """Scale-RAE's grid: ``num_steps`` points out of 1000 (``k / 1000``), shifted, from 1 to ``shift(0.001)``.

    The released sampler does not walk it from end to end: see :func:`raekit.samplers.ode.scale_rae_published`.

    Raises:
        UserError: fewer than 3 points, of which that sampler makes no step.
    """
    _needs_points(num_steps, 3)
    indices = torch.arange(num_steps, dtype=torch.float64) * (999 / (num_steps - 1))
    return shift_times((indices.round() + 1) / 1000, factor).flip(0)


def rae_published_sde_grid(num_steps: int, factor: float = 1.0) -> Tensor:
    """The grid of RAE's stochastic sampler: ``num_steps`` points from 1 to ``shift(0.04)``.

    The step from there to data is the sampler's own: see :func:`raekit.samplers.sde.rae_published_sde`.

    Raises:
        UserError: fewer than 2 points, which make no step.
    """
    _needs_points(num_steps, 2)
    return shift_times(torch.linspace(1, RAE_SDE_LAST_STEP, num_steps, dtype=torch.float64), factor)


def late_start(times: Tensor, strength: float, factor: float) -> Tensor:
    """A grid for the last ``strength`` of the way: every time scaled by it before the shift, none left out.

    Args:
        times: a grid of this module, shifted by ``factor``.
        strength: time before the shift to start at, in (0, 1]; 1 is the whole grid.
        factor: the shift ``a`` of the grid.
    """
    if strength == 1:
        return times
    return shift_times(strength * shift_times(times, 1 / factor), factor)


def _needs_points(num_steps: int, least: int) -> None:
    if num_steps < least:
        raise UserError(
            f"steps: {num_steps} is too few for this published grid, which counts points; give {least} or more"
        )
