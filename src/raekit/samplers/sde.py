"""Samplers that renew the noise on the way: stochastic equations with the marginals of the ODE, run from 1 to 0.

    dz = (velocity - w score) dt + sqrt(2 w) dW,    score = -eps / t,    eps = z_t + (1 - t) velocity

In: as the samplers of ``ode.py``, and ``noise()``, standard normal of the latent's shape each time it is called. Out:
the latent at the last time. Whatever the diffusion ``w(t) >= 0``, ``z_t`` is distributed as on the path; noise that is
renewed lets later steps repair what earlier ones got wrong. Both ends are well defined: at ``t = 1`` the score is
``-z``; at ``t = 0`` it has no limit, so a step that ends there adds no noise and lands on the model's clean latent, the
mean of all that ``z_t`` may have come from. SiT (arXiv 2401.08740); RAE's code carries the same forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raekit.samplers.ode import Callback, VelocityFn, batch_of, report, steps_of
from raekit.transport.path import per_sample, score
from raekit.transport.timesteps import RAE_SDE_LAST_STEP

Noise = Callable[[], Tensor]
"""The next standard normal noise ``[B, ...]``."""

Diffusion = Callable[[Tensor], Tensor]
"""``w(t)`` ``[B]`` of times ``[B]``."""


def sigma(t: Tensor) -> Tensor:
    """As much as there is noise, ``t``; what the published code calls ``linear`` is the same on this path."""
    return t


def constant(t: Tensor) -> Tensor:
    """The same at all times."""
    return torch.ones_like(t)


def decreasing(t: Tensor) -> Tensor:
    """From 1 at noise to 0 at data, as a cosine: ``(cos(pi (1 - t)) + 1)^2 / 4``."""
    return ((math.pi * (1 - t)).cos() + 1).square() / 4


def increasing_decreasing(t: Tensor) -> Tensor:
    """None at either end: ``sin(pi (1 - t))^2``."""
    return (math.pi * (1 - t)).sin().square()


def published_sbdm(t: Tensor) -> Tensor:
    """The default of RAE's code, ``-t / (1 - t)``: negative, and infinite at noise. For parity only."""
    return -t / (1 - t)


DIFFUSIONS: dict[str, Diffusion] = {
    "sigma": sigma,
    "constant": constant,
    "decreasing": decreasing,
    "increasing_decreasing": increasing_decreasing,
}


def sde(
    velocity_fn: VelocityFn,
    z: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    noise: Noise | None = None,
    diffusion: str = "sigma",
    diffusion_scale: float = 1.0,
) -> Tensor:
    """Euler-Maruyama on the stochastic equation, one evaluation a step; with little diffusion it nears Euler's method.

    Args:
        velocity_fn: as for all samplers.
        z: as for all samplers.
        times: as for all samplers.
        callback: as for all samplers.
        noise: where the noise comes from, asked once for every step but one that ends at 0.
        diffusion: row of :data:`DIFFUSIONS`.
        diffusion_scale: factor on it; 0 is Euler's method for the ODE.

    Raises:
        ValueError: no noise.
    """
    draw = _needed(noise)
    for step, t, t_next in steps_of(times):
        at = batch_of(t, z)
        velocity = velocity_fn(z, at)
        report(callback, step, times, z, velocity)
        if t_next <= 0:
            z = z - t * velocity
        else:
            w = diffusion_scale * DIFFUSIONS[diffusion](at)
            z = z + (t_next - t) * drift(velocity, z, at, w) + _spread(w, t - t_next, z) * draw()
    return z


def rae_published_sde(
    velocity_fn: VelocityFn,
    z: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    noise: Noise | None = None,
    diffusion: str = "sigma",
) -> Tensor:
    """What RAE's code does, for parity: Euler-Maruyama on all of ``times``, then a step of 0.04 without its noise.

    The last evaluation is at 0.04, wherever the (shifted) grid has ended.
    """
    draw = _needed(noise)
    for step, t, t_next in steps_of(times):
        at = batch_of(t, z)
        velocity = velocity_fn(z, at)
        report(callback, step, times, z, velocity)
        w = DIFFUSIONS[diffusion](at)
        z = z + (t_next - t) * drift(velocity, z, at, w) + _spread(w, t - t_next, z) * draw()
    at = batch_of(RAE_SDE_LAST_STEP, z)
    return z - RAE_SDE_LAST_STEP * drift(velocity_fn(z, at), z, at, DIFFUSIONS[diffusion](at))


def rae_published_sde_heun(
    velocity_fn: VelocityFn,
    z: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    noise: Noise | None = None,
    diffusion: str = "sigma",
) -> Tensor:
    """What RAE's code calls Heun, for parity: noise, then the mean of the drifts at both ends; last an ODE step."""
    draw = _needed(noise)

    def drift_at(z: Tensor, t: float) -> Tensor:
        at = batch_of(t, z)
        return drift(velocity_fn(z, at), z, at, DIFFUSIONS[diffusion](at))

    for step, t, t_next in steps_of(times):
        z = z + _spread(DIFFUSIONS[diffusion](batch_of(t, z)), t - t_next, z) * draw()
        slope = drift_at(z, t)
        report(callback, step, times, z, slope)
        z = z + (t_next - t) / 2 * (slope + drift_at(z + (t_next - t) * slope, t_next))
    return z - RAE_SDE_LAST_STEP * velocity_fn(z, batch_of(RAE_SDE_LAST_STEP, z))


def drift(velocity: Tensor, z_t: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """``velocity - w score`` of latents ``[B, ...]`` at ``t`` ``[B]`` under the diffusion ``w`` ``[B]``."""
    return velocity - per_sample(w, z_t).to(z_t.dtype) * score(velocity, z_t, t)


def noise_of(generators: Sequence[torch.Generator], like: Tensor) -> Noise:
    """Noise for ``like`` ``[B, ...]`` from one generator an image, drawn where that lies; no image feels the batch.

    Those that this library makes lie on the CPU, so that no image feels the device either. The noise an image started
    from should be the first draw of its generator.
    """

    def draw() -> Tensor:
        own = [torch.randn(like.shape[1:], generator=g, device=g.device) for g in generators]
        return torch.stack(own).to(like)

    return draw


def _spread(w: Tensor, length: float, z: Tensor) -> Tensor:
    """Standard deviation of the noise of a step, ``[B, 1, ...]``."""
    return per_sample((2 * w * length).sqrt(), z).to(z.dtype)


def _needed(noise: Noise | None) -> Noise:
    if noise is None:
        raise ValueError("noise: a stochastic sampler needs a source of noise; see noise_of")
    return noise
