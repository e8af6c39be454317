"""Words, one after the other: how the language model answers.

In: rows of ids up to where the answer begins, with the tokens of the pictures in them. Out: the ids that follow, and
how sure the model was of each. All rows are written together, each until it ends itself. The likeliest word is taken,
as published, or one is drawn, each row with random numbers of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raekit.device import keeping_casts
from raekit.multimodal.session import begin

if TYPE_CHECKING:
    from raekit.multimodal.conditioner import UnifiedConditioner

Choose = Callable[[Tensor], Tensor]
"""Logits ``[B, V]`` float32 of the next word to the ids ``[B]`` that are taken."""


@dataclass(frozen=True)
class Written:
    """What was written in ``B`` rows; ``T`` is the length of the longest.

    Attributes:
        ids: of each row, what ended it included.
        logits: ``[B, T]``, the raw logit of each id that was taken; 0 after the end of a row.
        confidence: ``[B, T]``, :func:`self_certainty` of each; 0 after the end of a row.
    """

    ids: list[list[int]]
    logits: Tensor
    confidence: Tensor


@torch.no_grad()
def write(
    conditioner: UnifiedConditioner,
    rows: Sequence[list[int]],
    max_tokens: int,
    shown: Tensor | None = None,
    stop: Sequence[int] | None = None,
    choose: Choose | None = None,
) -> Written:
    """Continue rows of ids.

    Args:
        conditioner: with the language model.
        rows: ids of ``B`` sequences, slots included.
        max_tokens: longest continuation.
        shown: tokens ``[M, N, D]`` of the pictures in the rows, in order.
        stop: ids that end a row; by default the one that ends a turn.
        choose: which word is taken; by default the likeliest.

    Raises:
        UserError: more than the language model was made to read.
    """
    choose = choose or likeliest
    ends = torch.tensor([conditioner.chat.turn_end] if stop is None else list(stop), device=conditioner.queries.device)
    is_open = torch.ones(len(rows), dtype=torch.bool, device=ends.device)
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with keeping_casts(ends.device):
        session, states = begin(conditioner, rows, shown)
        while True:
            logits = conditioner.logits(states[:, -1])
            taken = choose(logits)
            steps.append((taken, logits.gather(1, taken[:, None])[:, 0], self_certainty(logits), is_open))
            is_open = is_open & ~torch.isin(taken, ends)
            if len(steps) == max_tokens or not bool(is_open.any()):
                break
            states = session.read(conditioner.embed(taken[:, None]))
    taken, logits, confidence, was_open = (torch.stack(values, dim=1) for values in zip(*steps, strict=True))
    ids = [row[kept].tolist() for row, kept in zip(taken, was_open, strict=True)]
    return Written(ids, logits * was_open, confidence * was_open)


def likeliest(logits: Tensor) -> Tensor:
    """The id of the largest logit, ``[B]``."""
    return logits.argmax(-1)


def drawn(temperature: float, top_p: float, seeds: Sequence[int]) -> Choose:
    """Words drawn at random.

    Args:
        temperature: above 0; logits are divided by it, so that 1 is the model's own distribution and less is safer.
        top_p: in (0, 1]; only the likeliest words that together have this probability are drawn from (nucleus).
        seeds: of each row.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def choose(logits: Tensor) -> Tensor:
        probabilities, order = (logits / temperature).softmax(-1).sort(-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
        levels = torch.stack([torch.rand((), generator=generator) for generator in generators]).to(logits)
        reached = probabilities.cumsum(-1) > levels[:, None] * probabilities.sum(-1, keepdim=True)
        # Rounding may leave the last sum below the level: then the last word of the nucleus is taken.
        rank = torch.where(reached.any(-1), reached.int().argmax(-1), (probabilities > 0).sum(-1) - 1)
        return order.gather(1, rank[:, None])[:, 0]

    return choose


def self_certainty(logits: Tensor) -> Tensor:
    """How far the next word's distribution ``p`` is from knowing nothing, ``KL(uniform || p)`` in nats, ``[...]``.

    ``- mean_v log(V p_v)`` of logits ``[..., V]``: 0 for the uniform distribution, larger for a peaked one. Scale-RAE
    takes the logarithm of a softmax, which overflows to infinity on very peaked logits; this does not.
    """
    return -(logits.float().log_softmax(-1).mean(-1) + math.log(logits.shape[-1]))
