"""Samplers of the probability-flow ODE ``dz_t/dt = velocity(z_t, t)``, from noise (t = 1) towards data (t = 0).

In: ``velocity_fn(z_t, t [B])``, the starting latent ``z`` ``[B, ...]``, and ``times``, a decreasing 1-D tensor from
``raekit.transport.GRIDS``. Out: the latent at the last time. All share the first four arguments. A callback gets one
dictionary per step: ``step``, ``num_steps``, ``t``, ``z_t`` and ``x``, the clean latent the current velocity points to.
Keep ``z`` in float32: steps add small differences. RAE section 3.3 samples with 50 Euler steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from raekit.errors import UserError

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""``(z_t [B, ...], t [B]) -> velocity [B, ...]``."""

Callback = Callable[[dict[str, Any]], None]


def euler(velocity_fn: VelocityFn, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Euler's method, one evaluation a step: exact for straight paths, the published choice."""
    for step, t, t_next in _steps(times):
        velocity = velocity_fn(z, _batch_of(t, z))
        _report(callback, step, times, z, velocity)
        z = z + (t_next - t) * velocity
    return z


def heun(velocity_fn: VelocityFn, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Heun's second-order method: the mean of the slopes at both ends of a step, two evaluations.

    A step that ends at exactly 0 is an Euler step (one evaluation), because a model that predicts the clean latent has
    no velocity at ``t = 0`` (EDM, algorithm 1, does the same).
    """
    for step, t, t_next in _steps(times):
        slope = velocity_fn(z, _batch_of(t, z))
        _report(callback, step, times, z, slope)
        if t_next > 0:
            ahead = velocity_fn(z + (t_next - t) * slope, _batch_of(t_next, z))
            slope = (slope + ahead) / 2
        z = z + (t_next - t) * slope
    return z


def scale_rae_published(velocity_fn: VelocityFn, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """What the released Scale-RAE sampler does, for parity: Euler, displaced by one time.

    On ``scale_rae_published`` times it takes the noise to be at the *second* time, goes down to the last, and then
    moves the finished latent once more, from the second time to the first, towards noise.
    """
    z = euler(velocity_fn, z, times[1:], callback)
    return euler(velocity_fn, z, times[[1, 0]])


STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Dormand and Prince, 1980: weights of the earlier slopes at each stage; the last row is the fifth-order step."""

ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Fifth-order minus fourth-order weights: the error estimate."""


def dopri5(
    velocity_fn: VelocityFn, z: Tensor, times: Tensor, callback: Callback | None = None, *, tolerance: float = 1e-5
) -> Tensor:
    """Adaptive Runge-Kutta 4(5): as many evaluations as the tolerance asks for, on each interval of ``times``.

    Args:
        velocity_fn: as for all samplers.
        z: as for all samplers.
        times: as for all samplers; the grid only says where the callback looks.
        callback: as for all samplers.
        tolerance: error allowed per step, absolute and relative alike.

    Raises:
        UserError: the tolerance is finer than the arithmetic.
    """
    h = float(times[1] - times[0])
    for step, start, end in _steps(times):
        t = start
        slope = velocity_fn(z, _batch_of(t, z))
        _report(callback, step, times, z, slope)
        while t > end:
            h = max(h, end - t)
            candidate, slopes = _dormand_prince_step(velocity_fn, z, t, h, slope)
            error = h * sum(weight * k for weight, k in zip(ERROR, slopes, strict=True))
            ratio = float((error / (tolerance * (1 + torch.maximum(z.abs(), candidate.abs())))).square().mean().sqrt())
            if ratio <= 1:
                t, z, slope = (end if h == end - t else t + h), candidate, slopes[-1]
            elif abs(h) < 1e-7:
                raise UserError(f"tolerance: {tolerance} needs steps below 1e-7 in {z.dtype}; raise it")
            h *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-10) ** -0.2))
    return z


def _dormand_prince_step(
    velocity_fn: VelocityFn, z: Tensor, t: float, h: float, slope: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """One trial step of size ``h`` (negative): the new state and the seven slopes, the last one at the new state."""
    slopes, stage_z = [slope], z
    for fraction, weights in zip((1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0), STAGES, strict=True):
        stage_z = z + h * sum(weight * k for weight, k in zip(weights, slopes, strict=True))
        slopes.append(velocity_fn(stage_z, _batch_of(t + fraction * h, z)))
    return stage_z, slopes


def _steps(times: Tensor) -> Iterator[tuple[int, float, float]]:
    """``(index, t, next t)`` of each step."""
    for step, (t, t_next) in enumerate(pairwise(times.tolist())):
        yield step, t, t_next


def _batch_of(t: float, z: Tensor) -> Tensor:
    """One time for every sample, ``[B]``, float32 whatever the latent's precision."""
    return torch.full((len(z),), t, dtype=torch.promote_types(z.dtype, torch.float32), device=z.device)


def _report(callback: Callback | None, step: int, times: Tensor, z: Tensor, velocity: Tensor) -> None:
    if callback is not None:
        t = float(times[step])
        callback({"step": step, "num_steps": len(times) - 1, "t": t, "z_t": z, "x": z - t * velocity})
