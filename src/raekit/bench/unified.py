"""The parts of a step of the unified stage, each to be run by itself.

In: the stage and a micro-batch of conversations. Out: the frozen encoder (what is shown, and what is to be drawn), the
language model with all that is read out of it (words, and the conditions of pictures), and the backbone; forward, and
backward where something in them learns.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from raekit.bench.step import Parts
from raekit.conditioning.base import Cond
from raekit.multimodal.batch import PictureDraws
from raekit.training.stage import Micro
from raekit.training.unified import Unified


def parts_of(stage: Unified, micro: Micro) -> Parts:
    """The parts of a step by name; a batch that draws nothing has no backbone."""
    model, seen = stage.model, micro.prepared

    def language_model() -> None:
        with stage.autocast():
            states = model.states(seen)
            sums = [model.word_losses(states, seen.batch).sum()]
            if seen.latents is not None:
                sums += [part.float().sum() for part in _tensors(model.connect(states, seen.batch)).values()]
        _back(torch.stack(sums).sum())

    parts: Parts = {"encoder": lambda: stage.prepare(micro.batch), "language model": language_model}
    if seen.latents is None:
        return parts
    with stage.autocast():
        cond = model.connect(model.states(seen), seen.batch)
    # A condition that learns asks the backbone for its gradient too.
    fixed = Cond(**{name: part.detach().requires_grad_(part.requires_grad) for name, part in _tensors(cond).items()})
    draws = PictureDraws(micro.draws, seen.batch.rows, seen.batch.places)

    def backbone() -> None:
        with stage.autocast():
            loss = model.picture_losses(seen.latents, fixed, draws, is_training=True)["diffusion"].mean()
        _back(loss)

    return {**parts, "backbone": backbone}


def _tensors(cond: Cond) -> dict[str, Tensor]:
    """What a condition holds, by name."""
    found = {field.name: getattr(cond, field.name) for field in fields(cond)}
    return {name: part for name, part in found.items() if part is not None}


def _back(loss: Tensor) -> None:
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
