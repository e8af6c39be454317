"""From settings to a latent: the grid, the sampler by name, and what that sampler takes besides.

In: a velocity function, the starting noise, :class:`~raekit.samplers.settings.Sampling`. Out: a latent. The one place
that knows which options a sampler has: it offers them all, and each takes those that its signature names.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raekit.samplers import SAMPLERS
from raekit.samplers.ode import Callback, VelocityFn
from raekit.samplers.sde import noise_of
from raekit.samplers.settings import Sampling
from raekit.transport import GRIDS
from raekit.transport.timesteps import late_start


def integrate(
    velocity_fn: VelocityFn,
    z: Tensor,
    settings: Sampling,
    time_shift: float,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
    strength: float = 1.0,
    span: tuple[int, int] | None = None,
) -> Tensor:
    """The latent that noise ``z`` ``[B, C, h, w]`` becomes.

    Args:
        velocity_fn: guided or not.
        z: the noise.
        settings: sampler, grid and their options.
        time_shift: shift factor ``a`` of the grid.
        generators: one of each image, on the CPU, that ``z`` was drawn from; stochastic samplers go on with it.
        callback: see :mod:`raekit.samplers.ode`.
        strength: below 1, ``z`` is a latent with noise up to that time (before the shift), and the grid starts there.
        span: only the steps from the first of these to the second, which is not taken any more; ``z`` is where the
            first begins. By default all.

    Raises:
        UserError: the sampler or grid cannot work with the settings.
    """
    sampler = SAMPLERS[settings.sampler]
    offered: dict[str, Any] = {
        "noise": noise_of(generators, z),
        "tolerance": settings.tolerance,
        "diffusion": settings.diffusion,
        "diffusion_scale": settings.diffusion_scale,
    }
    taken = inspect.signature(sampler).parameters.keys() & offered.keys()
    times = times_of(settings, time_shift, strength)
    if span is not None:
        callback = None if callback is None else _within(callback, span[0], len(times) - 1)
        times = times[span[0] : span[1] + 1]
    latent: Tensor = sampler(velocity_fn, z, times, callback, **{name: offered[name] for name in taken})
    return latent


def times_of(settings: Sampling, time_shift: float, strength: float = 1.0) -> Tensor:
    """The times that the steps lie between, decreasing; arguments as for :func:`integrate`."""
    times: Tensor = GRIDS[settings.time_grid](settings.steps, time_shift)
    return late_start(times, strength, time_shift)


def _within(callback: Callback, first: int, num_steps: int) -> Callback:
    """``callback`` for a part of the way, told of its steps by their number on the whole of it."""
    return lambda report: callback({**report, "step": first + report["step"], "num_steps": num_steps})
