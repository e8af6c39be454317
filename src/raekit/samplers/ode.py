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
from raekit.liveness import sign_of_life
from raekit.transport.path import per_sample

SMALLEST_STEP = 1e-7
"""Below it an adaptive step changes nothing that float32 could hold."""

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""``(z_t [B, ...], t [B]) -> velocity [B, ...]``."""

Callback = Callable[[dict[str, Any]], None]


def euler(velocity_fn: VelocityFn, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Euler's method, one evaluation a step: exact for straight paths, the published choice."""
    for step, t, t_next in steps_of(times):
        velocity = velocity_fn(z, batch_of(t, z))
        report(callback, step, times, z, velocity)
        z = z + (t_next - t) * velocity
    return z


def heun(velocity_fn: VelocityFn, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Heun's second-order method: the mean of the slopes at both ends of a step, two evaluations.

    A step that ends at exactly 0 is an Euler step (one evaluation), because a model that predicts the clean latent has
    no velocity at ``t = 0`` (EDM, algorithm 1, does the same).
    """
    for step, t, t_next in steps_of(times):
        slope = velocity_fn(z, batch_of(t, z))
        report(callback, step, times, z, slope)
        if t_next > 0:
            ahead = velocity_fn(z + (t_next - t) * slope, batch_of(t_next, z))
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
    """Adaptive Runge-Kutta 4(5): as many evaluations as the tolerance asks for, from the first time to the last.

    Every sample has steps of its own, so that its result does not depend on the samples beside it. What a network in
    bf16 says is rough by parts in a thousand; a tolerance far below that buys very many steps and no accuracy.

    Args:
        velocity_fn: as for all samplers.
        z: as for all samplers.
        times: as for all samplers; between its ends it only says when the callback is told of the slowest sample.
        callback: as for all samplers; it sees states at the times that were reached, a little past those of the grid.
        tolerance: error allowed per step, absolute and relative alike.

    Raises:
        UserError: the tolerance is finer than the arithmetic.
    """
    start, end = float(times[0]), float(times[-1])
    # Not down to 0, where a model that predicts the clean latent has no velocity: the rest is one Euler step, whose
    # error, of the second order in its length, is far below the tolerance.
    floor = end if end > 0 else min(start, 0.1 * tolerance**0.5)
    t = torch.full((len(z),), start, dtype=torch.float64, device=z.device)
    h = torch.full_like(t, float(times[1]) - start)
    slope = velocity_fn(z, batch_of(start, z))
    passed = 0
    while bool((is_open := t > floor).any()):
        passed = _report_passed(callback, passed, times, t, (z, slope))
        trial = torch.maximum(h, floor - t)
        candidate, slopes = _dormand_prince_step(velocity_fn, z, t, trial, slope)
        ratio = _error_ratio(trial, slopes, z, candidate, tolerance)
        is_accepted = is_open & (ratio <= 1)
        if bool((is_open & ~is_accepted & (trial > -SMALLEST_STEP)).any()):
            raise UserError(f"tolerance: {tolerance} needs steps below {SMALLEST_STEP} in {z.dtype}; raise it")
        t = torch.where(is_accepted, torch.where(trial == floor - t, floor, t + trial), t)
        z = torch.where(per_sample(is_accepted, z), candidate, z)
        slope = torch.where(per_sample(is_accepted, z), slopes[-1], slope)
        h = torch.where(is_open, trial * (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 5.0), h)
    z = z + (end - floor) * slope
    _report_passed(callback, passed, times, torch.full_like(t, end), (z, slope))
    return z


def _dormand_prince_step(
    velocity_fn: VelocityFn, z: Tensor, t: Tensor, h: Tensor, slope: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """One trial step of size ``h`` ``[B]`` (negative): the new state, and the seven slopes, the last one there."""
    slopes, stage_z, size = [slope], z, per_sample(h, z).to(z.dtype)
    for fraction, weights in zip((1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0), STAGES, strict=True):
        stage_z = z + size * sum(weight * k for weight, k in zip(weights, slopes, strict=True))
        slopes.append(velocity_fn(stage_z, (t + fraction * h).to(batch_of(0.0, z).dtype)))
    return stage_z, slopes


def _error_ratio(h: Tensor, slopes: list[Tensor], z: Tensor, candidate: Tensor, tolerance: float) -> Tensor:
    """Estimated error of each sample's trial step over the error it is allowed, ``[B]`` float64."""
    error = per_sample(h, z) * sum(weight * k for weight, k in zip(ERROR, slopes, strict=True))
    allowed = tolerance * (1 + torch.maximum(z.abs(), candidate.abs()))
    return (error / allowed).double().square().flatten(1).mean(1).sqrt().detach()


def _report_passed(
    callback: Callback | None, passed: int, times: Tensor, t: Tensor, state: tuple[Tensor, Tensor]
) -> int:
    """Tell the callback of every step of the grid that all samples have taken; how many those are now."""
    if callback is None:
        return passed
    (z, slope), slowest, num_steps = state, float(t.max()), len(times) - 1
    while passed < num_steps and slowest <= float(times[passed]):
        x = z - per_sample(t, z).to(z.dtype) * slope
        callback({"step": passed, "num_steps": num_steps, "t": slowest, "z_t": z, "x": x})
        passed += 1
    return passed


def steps_of(times: Tensor) -> Iterator[tuple[int, float, float]]:
    """``(index, t, next t)`` of each step."""
    for step, (t, t_next) in enumerate(pairwise(times.tolist())):
        yield step, t, t_next
        sign_of_life()


def batch_of(t: float, z: Tensor) -> Tensor:
    """One time for every sample, ``[B]``, float32 whatever the latent's precision."""
    return torch.full((len(z),), t, dtype=torch.promote_types(z.dtype, torch.float32), device=z.device)


def report(callback: Callback | None, step: int, times: Tensor, z: Tensor, velocity: Tensor) -> None:
    if callback is not None:
        t = float(times[step])
        callback({"step": step, "num_steps": len(times) - 1, "t": t, "z_t": z, "x": z - t * velocity})
