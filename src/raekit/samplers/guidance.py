"""Guidance: push a velocity away from a worse one, inside an interval of times.

    guided = worse + scale (better - worse) = better + (scale - 1) (better - worse)

In: a model read as a velocity, conditions, a scale. Out: a velocity function for a sampler. All kinds are this one line
and differ in where the worse velocity comes from: the same model without its condition (classifier-free, arXiv
2207.12598), a second, weaker model (autoguidance, 2406.02507; RAE, appendix I), or the early head of the same forward
pass (RAEv2, 2605.18324, which writes ``w`` for ``scale - 1``). Scale 1 is no guidance in each of them.

No backbone knows of it, and no forward pass is spent where it cannot matter: outside the interval (2404.07724), or at
scale 1, only the good velocity is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor

from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.samplers.ode import VelocityFn
from raekit.samplers.settings import Sampling
from raekit.transport.objective import CondVelocity, EarlyModel, Pair
from raekit.transport.path import per_sample

Interval = tuple[float, float]
"""Lowest and highest guided time, both included; times after the shift, as the model sees them."""

IntervalLaw = Callable[[Tensor, float, Interval], Tensor]
"""``(t [B], scale, interval) -> scale of each sample [B]``, where 1 means unguided."""

ALL_TIMES: Interval = (0.0, 1.0)

Out = TypeVar("Out")


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


class Guidance(ABC):
    """A guided velocity function; subclasses say what is compared.

    Args:
        scale: 1 is the better velocity alone, 0 the worse; above 1 is guidance.
        interval: guided times.
        law: how the interval is read.
    """

    def __init__(self, scale: float, interval: Interval = ALL_TIMES, law: IntervalLaw = guide_inside) -> None:
        self.scale, self.interval, self.law = scale, interval, law

    def __call__(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The guided velocity of ``z_t`` ``[B, C, h, w]`` at ``t`` ``[B]``."""
        scales = self.scales(t)
        if scales is None:
            return self.better(z_t, t)
        better, worse = self.both(z_t, t)
        return worse + per_sample(scales, z_t) * (better - worse)

    @abstractmethod
    def better(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The velocity that is pushed further; run alone where nothing is guided."""

    @abstractmethod
    def both(self, z_t: Tensor, t: Tensor) -> Pair:
        """The better and the worse velocity."""

    def scales(self, t: Tensor) -> Tensor | None:
        """The scale of each sample ``[B]``; None where none is guided."""
        if self.law is guide_inside:
            if self.scale == 1:
                return None
            if self.interval == ALL_TIMES:
                # Known without looking at ``t``, which an accelerator would have to be waited for.
                return torch.full_like(t, self.scale)
        scales = self.law(t, self.scale, self.interval)
        return None if bool((scales == 1).all()) else scales


class ClassifierFree(Guidance):
    """Away from the same model without its condition, both from one call on a doubled batch.

    Args:
        velocity: the model, e.g. :meth:`raekit.transport.objective.FlowMatching.velocity_of`.
        cond: condition of the ``B`` samples.
        null_cond: the conditioner's null for as many samples, or what is *not* to be seen.
        scale: as for all guidance.
        interval: as for all guidance.
        law: as for all guidance.
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
        super().__init__(scale, interval, law)
        self.velocity, self.cond, self.null_cond = velocity, cond, null_cond

    def better(self, z_t: Tensor, t: Tensor) -> Tensor:
        return self.velocity(z_t, t, self.cond)

    def both(self, z_t: Tensor, t: Tensor) -> Pair:
        with_cond, without = self.velocity(torch.cat((z_t, z_t)), torch.cat((t, t)), self._both_conds).chunk(2)
        return with_cond, without

    @cached_property
    def _both_conds(self) -> Cond:
        return Cond.cat([self.cond, self.null_cond])


class AutoGuidance(Guidance):
    """Away from a second, weaker model; each model runs at most once.

    Args:
        velocity: the good model with its condition, ``(z_t, t) -> velocity``; may itself be guided.
        weak_velocity: the weaker model under the same condition.
        scale: as for all guidance.
        interval: as for all guidance.
        law: as for all guidance.
    """

    def __init__(
        self,
        velocity: VelocityFn,
        weak_velocity: VelocityFn,
        scale: float,
        interval: Interval = ALL_TIMES,
        law: IntervalLaw = guide_inside,
    ) -> None:
        super().__init__(scale, interval, law)
        self.velocity, self.weak_velocity = velocity, weak_velocity

    def better(self, z_t: Tensor, t: Tensor) -> Tensor:
        return self.velocity(z_t, t)

    def both(self, z_t: Tensor, t: Tensor) -> Pair:
        return self.velocity(z_t, t), self.weak_velocity(z_t, t)


class InternalGuidance(Guidance):
    """Away from what the same forward pass said at its early head; no second pass, no second model.

    Args:
        velocity: the model with its condition; run where nothing is guided.
        velocities: the same model with its early head, ``(z_t, t) -> (velocity, early velocity)``.
        scale: as for all guidance.
        interval: as for all guidance; RAEv2 guides ``t > 0.1`` at scale 1.78.
        law: as for all guidance.
    """

    def __init__(
        self,
        velocity: VelocityFn,
        velocities: Callable[[Tensor, Tensor], Pair],
        scale: float,
        interval: Interval = ALL_TIMES,
        law: IntervalLaw = guide_inside,
    ) -> None:
        super().__init__(scale, interval, law)
        self.velocity, self.velocities = velocity, velocities

    def better(self, z_t: Tensor, t: Tensor) -> Tensor:
        return self.velocity(z_t, t)

    def both(self, z_t: Tensor, t: Tensor) -> Pair:
        return self.velocities(z_t, t)


@dataclass(frozen=True)
class Guided:
    """A model under a condition, and all it could be guided by.

    Attributes:
        velocity: the model.
        cond: condition of the ``B`` samples.
        null_cond: the condition that classifier-free guidance compares with; None if the model never learned one.
        velocities: the model with its early head; None if it has none.
        weak_velocity: a weaker model under its own condition; None if there is none.
    """

    velocity: CondVelocity
    cond: Cond
    null_cond: Cond | None = None
    velocities: EarlyModel | None = None
    weak_velocity: VelocityFn | None = None


def guide(model: Guided, settings: Sampling) -> VelocityFn:
    """The velocity function of a model with the guidance that is asked for.

    Raises:
        UserError: the model has not what this guidance needs.
    """
    check_guidance(settings, model.null_cond is not None, model.velocities is not None)
    alone = partial(_under, model.velocity, model.cond)
    scale, interval = settings.guidance_scale, settings.guidance_interval
    if not settings.is_guided:
        return alone
    if settings.guidance == "cfg" and model.null_cond is not None:
        return ClassifierFree(model.velocity, model.cond, model.null_cond, scale, interval)
    if settings.guidance == "internal" and model.velocities is not None:
        return InternalGuidance(alone, partial(_under, model.velocities, model.cond), scale, interval)
    if model.weak_velocity is None:
        raise UserError("guidance: 'auto' needs a second, weaker generator; name its directory as guide")
    return AutoGuidance(alone, model.weak_velocity, scale, interval)


def check_guidance(settings: Sampling, has_null: bool, has_early: bool) -> None:
    """Raise UserError unless a model can be guided as the settings say.

    Args:
        settings: what is asked for.
        has_null: it was trained with condition dropout.
        has_early: its backbone has an early head.
    """
    needs = {
        "cfg": (has_null, "a model trained with condition.dropout above 0"),
        "internal": (has_early, "a backbone with an early head (early_block)"),
    }
    is_met, need = needs.get(settings.guidance, (True, ""))
    if settings.is_guided and not is_met:
        raise UserError(f"guidance: {settings.guidance!r} needs {need}; choose another, or none")


def _under(function: Callable[[Tensor, Tensor, Cond], Out], cond: Cond, z_t: Tensor, t: Tensor) -> Out:
    return function(z_t, t, cond)
