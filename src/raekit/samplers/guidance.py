"""Guidance: push a velocity away from a worse one, inside an interval of times.

In: a model read as a velocity, conditions, a scale. Out: a velocity function for a sampler. No backbone knows of it,
and no forward pass is spent where it cannot matter: outside the interval, or at scale 1, only the good velocity is run.
Classifier-free guidance: arXiv 2207.12598; limited to an interval: 2404.07724; autoguidance: 2406.02507 (RAE,
appendix I).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from raekit.conditioning.base import Cond
from raekit.samplers.ode import VelocityFn
from raekit.transport.objective import CondVelocity
from raekit.transport.path import per_sample

Interval = tuple[float, float]
"""Lowest and highest guided time, both included; times after the shift, as the model sees them."""

IntervalLaw = Callable[[Tensor, float, Interval], Tensor]
"""``(t [B], scale, interval) -> scale of each sample [B]``, where 1 means unguided."""

ALL_TIMES: Interval = (0.0, 1.0)


def guide_inside(t: Tensor, scale: float, interval: Interval) -> Tensor:
    """``scale`` where ``low <= t <= high``, else 1."""
    low, high = interval
    return torch.where((t >= low) & (t <= high), scale, 1.0)


def published_guide_outside(t: Tensor, scale: float, interval: Interval, inside_scale: float = 1.0) -> Tensor:
    """``scale`` *outside* of ``low <= t < high``, ``inside_scale`` within, as the released LightningDiT code reads it.

    Scale-RAE's default interval of (-1e4, 1e4) under this law is why its released guidance never acts. For parity only.
    """
    low, high = interval
    return torch.where((t >= low) & (t < high), inside_scale, scale)


class ClassifierFree:
    """``v_null + scale (v_cond - v_null)``, both from one call of the model on a doubled batch.

    Args:
        velocity: the model, e.g. :meth:`raekit.transport.objective.FlowMatching.velocity_of`.
        cond: condition of the ``B`` samples.
        null_cond: the conditioner's null for as many samples.
        scale: 1 is the condition alone, 0 the null alone; above 1 is guidance.
        interval: guided times.
        law: how the interval is read.
    """

    def __init__(
        self,
        velocity: CondVelocity,
        cond: Cond,
        null_cond: Cond,
        scale: float,
        interval: Interval = ALL_TIMES,
        law: IntervalLaw = guide_inside,
    ) -> None:
        self.velocity, self.cond, self.null_cond = velocity, cond, null_cond
        self.scale, self.interval, self.law = scale, interval, law

    def __call__(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The guided velocity of ``z_t`` ``[B, C, h, w]`` at ``t`` ``[B]``."""
        scale = self.law(t, self.scale, self.interval)
        if bool((scale == 1).all()):
            return self.velocity(z_t, t, self.cond)
        both = self.velocity(torch.cat((z_t, z_t)), torch.cat((t, t)), self._both_conds)
        with_cond, without = both.chunk(2)
        return without + per_sample(scale, z_t) * (with_cond - without)

    @cached_property
    def _both_conds(self) -> Cond:
        return Cond.cat([self.cond, self.null_cond])


class AutoGuidance:
    """``v_weak + scale (v - v_weak)`` with a second, weaker model; each model runs at most once.

    Args:
        velocity: the good model with its condition, ``(z_t, t) -> velocity``; may itself be guided.
        weak_velocity: the weaker model under the same condition.
        scale: 1 is the good model alone.
        interval: guided times.
        law: how the interval is read.
    """

    def __init__(
        self,
        velocity: VelocityFn,
        weak_velocity: VelocityFn,
        scale: float,
        interval: Interval = ALL_TIMES,
        law: IntervalLaw = guide_inside,
    ) -> None:
        self.velocity, self.weak_velocity = velocity, weak_velocity
        self.scale, self.interval, self.law = scale, interval, law

    def __call__(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The guided velocity of ``z_t`` ``[B, C, h, w]`` at ``t`` ``[B]``."""
        good = self.velocity(z_t, t)
        scale = self.law(t, self.scale, self.interval)
        if bool((scale == 1).all()):
            return good
        weak = self.weak_velocity(z_t, t)
        return weak + per_sample(scale, z_t) * (good - weak)
