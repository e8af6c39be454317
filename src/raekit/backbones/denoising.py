"""What a backbone learns of a batch: times and noises of the samples' own random numbers, dropped conditions, loss.

    draws -> t, noise --path--> z_t --backbone, told the condition (or its null)--> loss of each sample

In: clean latents, conditions, random numbers. Out: the terms of the loss, per sample. Stage 2 and unified training both
learn through here.

**Several times of one latent.** Where a large language model makes the condition, the backbone is a small part of a
step. ``times`` shows it each latent at so many times and noises with one reading of the condition: the mean of the loss
stays what it was, its gradient is that of a batch so many times as large (as MAR does for its small denoiser, arXiv
2406.11838, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from raekit.autoencoder.base import NoiseSource
from raekit.backbones.base import Backbone
from raekit.conditioning.base import Cond
from raekit.transport.objective import FlowMatching

PURPOSE_TIME, PURPOSE_EPS, PURPOSE_DROP = range(3)
TIMES_STRIDE = 4
"""Between the purposes of a sample's numbers at its first time and those at its second."""
MOST_TIMES = 16
"""Of these, so many that no purpose meets another's (the autoencoder's begin at 100)."""


class Denoiser(Protocol):
    """What this needs of a generator."""

    conditioner: Any
    backbone: Backbone
    transport: FlowMatching


class Repeated:
    """The random numbers of a batch in which each sample stands ``times`` times, one after another, all different.

    Args:
        draws: of the ``B`` samples.
        times: how often each stands there; the first has the numbers that it has in ``draws``.
    """

    def __init__(self, draws: NoiseSource, times: int) -> None:
        self.draws, self.times = draws, times

    def uniform(self, purpose: int) -> Tensor:
        """``[B * times]`` in [0, 1)."""
        return self._each(self.draws.uniform, purpose)

    def normal(self, purpose: int, shape: Sequence[int] = ()) -> Tensor:
        """``[B * times, *shape]`` standard normal."""
        return self._each(lambda number: self.draws.normal(number, shape), purpose)

    def _each(self, draw: Callable[[int], Tensor], purpose: int) -> Tensor:
        return torch.stack([draw(purpose + TIMES_STRIDE * number) for number in range(self.times)], dim=1).flatten(0, 1)


def denoising_losses(
    model: Denoiser, latents: Tensor, cond: Cond, draws: NoiseSource, is_training: bool = True, times: int = 1
) -> dict[str, Tensor]:
    """The terms of each sample.

    Args:
        model: a generator's parts.
        latents: clean, ``[B, C, h, w]``.
        cond: of ``B`` samples.
        draws: the samples' random numbers.
        is_training: drop conditions.
        times: at how many times each latent is learned, 1 to 16; its terms are their mean.

    Returns:
        ``loss`` ``[B]``; with an early head also its parts, ``flow`` of the last layer and ``self`` of the early one.
    """
    if times > 1:
        index = torch.arange(len(latents), device=latents.device).repeat_interleave(times)
        latents, cond, draws = latents[index], cond[index], Repeated(draws, times)
    if is_training:
        cond = model.conditioner.drop(cond, draws.uniform(PURPOSE_DROP))
    t = model.transport.sample_t(draws.uniform(PURPOSE_TIME)).to(
        latents.device, torch.promote_types(latents.dtype, torch.float32)
    )
    eps = draws.normal(PURPOSE_EPS, latents.shape[1:]).to(latents.device)
    if model.backbone.early is None:
        terms = {"loss": model.transport.loss(model.backbone, latents, cond, t, eps)}
    else:
        terms = model.transport.losses(model.backbone.with_early, latents, cond, t, eps)
    return {name: value.view(-1, times).mean(1) for name, value in terms.items()}
