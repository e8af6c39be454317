"""The training loss: flow matching, in float32, from draws that the caller owns.

In: a model, clean latents, conditions, times and noise. Out: one loss per sample and term. The same object says how to
read the model's output as a velocity, so that a sampler never branches on what was predicted. RAE section 3.3; the loss
of an ``x`` prediction is JiT's (arXiv 2511.13720), which measures it as a velocity; the second term, of a model that
also predicts from an early block, is RAEv2's (arXiv 2605.18324).

**Near t = 0** an ``x`` prediction says little about the velocity ``(z_t - x) / t``: the loss divides by
``max(t, t_eps)``, so no sample weighs more than ``1 / t_eps^2``, and sampling by ``max(t, 1e-4)``. The last step of a
sampler ends at the prediction itself, whatever ``t`` it starts from: ``z_t + (0 - t) (z_t - x) / t = x``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from raekit import config as recipes
from raekit.transport import TIMESTEPS
from raekit.transport.path import PathSample, path_sample, to_velocity
from raekit.transport.timesteps import BASE_DIM, TimeLaw, shift_times, time_shift

Model = Callable[[Tensor, Tensor, Any], Tensor]
"""A backbone: ``(z_t [B, C, h, w], t [B], cond) -> output [B, C, h, w]``."""

CondVelocity = Callable[[Tensor, Tensor, Any], Tensor]
"""A model read as a velocity: ``(z_t, t, cond) -> velocity``; what guidance wraps."""

Pair = tuple[Tensor, Tensor]
"""The same quantity by the last layer and by the early one, each ``[B, C, h, w]``."""

EarlyModel = Callable[[Tensor, Tensor, Any], Pair]
"""A backbone with an early head: ``(z_t, t, cond) -> (output, early output)``, both of one forward pass."""


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
        timesteps: str = Field("logit_normal", json_schema_extra=lambda schema: schema.update(enum=list(TIMESTEPS)))
        """Law of the training times before the shift."""
        time_shift: float | None = Field(None, gt=0)
        """Shift factor ``a``; by default ``sqrt(latent dim / base_dim)``; 1 is off."""
        base_dim: int = Field(BASE_DIM, gt=0)
        """Latent dimension without a shift, ``n`` of the papers."""
        t_eps: float = Field(0.05, gt=0, le=1)
        """With ``prediction: x``, the floor of ``t`` in the loss weight ``1 / t^2``."""
        self_weight: float = Field(0.5, ge=0, allow_inf_nan=False)
        """Weight of the early head's loss, of a backbone that has one (``early_block``); RAEv2: 0.5."""

        @field_validator("timesteps")
        @classmethod
        def _is_law(cls, value: str) -> str:
            return recipes.check_row(value, TIMESTEPS)

    def __init__(self, config: Config, latent_dim: int) -> None:
        self.config = config
        self.time_shift = config.time_shift or time_shift(latent_dim, config.base_dim)
        self.time_law: TimeLaw = TIMESTEPS[config.timesteps]

    def sample_t(self, uniform: Tensor) -> Tensor:
        """Training times ``[B]`` from uniform draws ``[B]`` in [0, 1), shift included.

        Raises:
            ValueError: a draw lies outside [0, 1].
        """
        # Looked at on the CPU alone: on an accelerator the answer would have to be waited for at every step.
        if uniform.device.type == "cpu" and not bool(((uniform >= 0) & (uniform <= 1)).all()):
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
        z, point = _noised(z, eps, t)
        return self._error(model(point.z_t, t, cond), z, point)

    def losses(self, model: EarlyModel, z: Tensor, cond: Any, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """The terms of a model with an early head, per sample: both heads answer to the same target.

        Args:
            model: the backbone's ``with_early``.
            z: as for :meth:`loss`.
            cond: as for :meth:`loss`.
            t: as for :meth:`loss`.
            eps: as for :meth:`loss`.

        Returns:
            ``loss`` = ``flow`` + ``self_weight`` ``self``, each ``[B]``: ``flow`` is :meth:`loss` of the last layer,
            ``self`` the same of the early head.
        """
        z, point = _noised(z, eps, t)
        flow, early = (self._error(output, z, point) for output in model(point.z_t, t, cond))
        return {"loss": flow + self.config.self_weight * early, "flow": flow, "self": early}

    def velocity(self, output: Tensor, z_t: Tensor, t: Tensor) -> Tensor:
        """The velocity ``[B, C, h, w]`` that a model's ``output`` at ``(z_t, t [B])`` means, for sampling."""
        return to_velocity(self.config.prediction, output.to(z_t.dtype), z_t, t)

    def velocity_of(self, model: Model) -> CondVelocity:
        """``model`` read as a velocity function of ``(z_t, t, cond)``."""
        return lambda z_t, t, cond: self.velocity(model(z_t, t, cond), z_t, t)

    def velocities_of(self, model: EarlyModel) -> EarlyModel:
        """A model with an early head, both of its outputs read as velocities; what internal guidance wraps."""

        def velocities(z_t: Tensor, t: Tensor, cond: Any) -> Pair:
            output, early = model(z_t, t, cond)
            return self.velocity(output, z_t, t), self.velocity(early, z_t, t)

        return velocities

    def _error(self, output: Tensor, z: Tensor, point: PathSample) -> Tensor:
        """Mean square ``[B]`` of what ``output`` misses of the velocity."""
        prediction = self.config.prediction
        truth = z if prediction == "x" else point.velocity
        predicted, target = (
            to_velocity(prediction, value, point.z_t, point.t, self.config.t_eps)
            for value in (output.to(z.dtype), truth)
        )
        return (predicted - target).square().flatten(1).mean(1)


def _noised(z: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, PathSample]:
    """Clean latents and their point at ``t``, in float32 or better."""
    exact = torch.promote_types(z.dtype, torch.float32)
    return z.to(exact), path_sample(z.to(exact), eps.to(exact), t)
