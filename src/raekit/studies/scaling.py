"""How good the best of N are, from one pool of judged candidates.

In: of every prompt ``M`` candidates, what a verifier says of each, and which are right. Out: the share of right ones
among the best k of N. A pool of ``M`` holds ``M // N`` disjoint groups of N; the share is the mean over them, so that
small N are told as exactly as large ones, and nothing is drawn twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raekit.evaluate.figures import Mean


@dataclass(frozen=True)
class Timing:
    """Seconds of one picture.

    Attributes:
        draw: from noise to a latent.
        verify: judging one, with the rendering that it needs.
        decode: rendering one.
    """

    draw: float
    verify: float
    decode: float


def best_share(
    scores: Tensor, right: Tensor, num: int, keep: int, estimates: Tensor | None = None, num_left: int | None = None
) -> Tensor:
    """Share of right pictures among the best ``keep`` of ``num``, for each prompt ``[P]`` float64.

    Args:
        scores: ``[P, M]``, higher is better; of equal ones the earlier wins.
        right: ``[P, M]`` bool.
        num: candidates in a group, at most ``M``.
        keep: of each group, at most ``num``.
        estimates: scores ``[P, M]`` of where the candidates were heading, by which the worse are dropped first.
        num_left: how many of a group are left then.
    """
    groups = scores.shape[1] // num
    parts = []
    for first in range(0, groups * num, num):
        group = slice(first, first + num)
        values = scores[:, group].double()
        if estimates is not None:
            dropped = _order(estimates[:, group])[:, num_left:]
            values = values.scatter(1, dropped, -math.inf)
        parts.append(right[:, group].double().gather(1, _order(values)[:, :keep]).mean(1))
    return torch.stack(parts).mean(0)


def random_share(right: Tensor) -> Tensor:
    """What choosing by chance gives on average, ``[P]``: the share of right candidates."""
    return right.double().mean(1)


def over_tasks(values: Tensor, tasks: Sequence[str]) -> Mean:
    """The mean over tasks of the means of their prompts, as GenEval averages; the error is over prompts."""
    names = list(dict.fromkeys(tasks))
    each = [Mean.of(values[[index for index, task in enumerate(tasks) if task == name]]) for name in names]
    error = math.sqrt(sum(mean.standard_error**2 for mean in each)) / len(each)
    return Mean(sum(mean.value for mean in each) / len(each), error)


def cost(timing: Timing, num: int, keep: int, num_left: int | None = None, walked: float = 1.0) -> tuple[float, float]:
    """Seconds for each picture that is kept, and the share of them that verification takes.

    Args:
        timing: of one picture.
        num: candidates.
        keep: pictures that are kept and rendered.
        num_left: candidates that are drawn to the end; by default all.
        walked: share of the steps after which the others are dropped.
    """
    left = num if num_left is None else num_left
    draw = timing.draw * (num * walked + left * (1 - walked))
    verify = timing.verify * (num if num_left is None else num + left)
    whole = draw + verify + timing.decode * keep
    return whole / keep, verify / whole


def _order(values: Tensor) -> Tensor:
    return torch.argsort(values.double(), dim=1, descending=True, stable=True)
