"""The training loss: flow matching, in float32, from draws that the caller owns.

In: a model, clean latents, conditions, times and noise. Out: one loss per sample. The same object says how to read the
model's output as a velocity, so that a sampler never branches on what was predicted. RAE section 3.3; the loss of an
``x`` prediction is JiT's (arXiv 2511.13720), which measures it as a velocity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from raekit import config as recipes
from raekit.transport import TIMESTEPS
from raekit.transport.path import path_sample, to_velocity
from raekit.transport.timesteps import BASE_DIM, TimeLaw, shift_times, time_shift

Model = Callable[[Tensor, Tensor, Any], Tensor]
"""A backbone: ``(z_t [B, C, h, w], t [B], cond) -> output [B, C, h, w]``."""

CondVelocity = Callable[[Tensor, Tensor, Any], Tensor]
"""A model read as a velocity: ``(z_t, t, cond) -> velocity``; what guidance wraps."""


class FlowMatching:
    """Flow matching on the linear path.

    Args:
        config: prediction, law of the training times, shift.
        latent_dim: ``C * h * w`` of the latent space; the time shift follows from it.

    Attributes:
        time_shift: the factor ``a`` in force, for training and for sampling grids.
    """

    class Config(recipes.Config):
        """What is predicted, and when."""

        prediction: Literal["velocity", "x"] = "velocity"
        """What the model's output means: ``eps - z``, or the clean latent."""
        timesteps: Literal["uniform", "logit_normal", "rae_uniform", "rae_logit_normal"] = "logit_normal"
        """Law of the training times before the shift."""
        time_shift: float | None = Field(None, gt=0)
        """Shift factor ``a``; by default ``sqrt(latent dim / base_dim)``."""
        base_dim: int = Field(BASE_DIM, gt=0)
        """Latent dimension without a shift, ``n`` of the papers."""
        t_eps: float = Field(0.05, gt=0, le=1)
        """With ``prediction: x``, the floor of ``t`` in the loss weight ``1 / t^2``."""

    def __init__(self, config: Config, latent_dim: int) -> None:
        self.config = config
        self.time_shift = config.time_shift or time_shift(latent_dim, config.base_dim)
        self.time_law: TimeLaw = TIMESTEPS[config.timesteps]

    def sample_t(self, uniform: Tensor) -> Tensor:
        """Training times ``[B]`` from uniform draws ``[B]`` in [0, 1), shift included.

        Raises:
            ValueError: a draw lies outside [0, 1].
        """
        if not bool(((uniform >= 0) & (uniform <= 1)).all()):
            raise ValueError("sample_t: needs uniform draws in [0, 1); the law of the times is applied here")
        return shift_times(self.time_law(uniform), self.time_shift)

    def loss(self, model: Model, z: Tensor, cond: Any, t: Tensor, eps: Tensor) -> Tensor:
        """Mean squared error of the velocity, per sample.

        With ``prediction: x`` both the output and the truth are turned into velocities with the same floor ``t_eps`` on
        ``t``, so that the loss equals ``|velocity - (eps - z)|^2`` from ``t_eps`` on and a perfect output has loss 0
        below it too.

        Args:
            model: the backbone.
            z: clean latents ``[B, C, h, w]``.
            cond: the model's condition.
            t: times ``[B]``, from :meth:`sample_t`.
            eps: standard normal noise, shape of ``z``.

        Returns:
            ``[B]`` float32 (float64 for float64 latents), averaged over ``C, h, w``.
        """
        exact = torch.promote_types(z.dtype, torch.float32)
        z, point = z.to(exact), path_sample(z.to(exact), eps.to(exact), t)
        prediction = self.config.prediction
        truth = z if prediction == "x" else point.velocity
        output = model(point.z_t, t, cond).to(exact)
        predicted, target = (
            to_velocity(prediction, value, point.z_t, t, self.config.t_eps) for value in (output, truth)
        )
        return (predicted - target).square().flatten(1).mean(1)

    def velocity(self, output: Tensor, z_t: Tensor, t: Tensor) -> Tensor:
        """The velocity ``[B, C, h, w]`` that a model's ``output`` at ``(z_t, t [B])`` means, for sampling."""
        return to_velocity(self.config.prediction, output.to(z_t.dtype), z_t, t)

    def velocity_of(self, model: Model) -> CondVelocity:
        """``model`` read as a velocity function of ``(z_t, t, cond)``."""
        return lambda z_t, t, cond: self.velocity(model(z_t, t, cond), z_t, t)
