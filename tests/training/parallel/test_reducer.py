"""Gradients meet in their mean, in any order of arrival, whether they travel early or at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import two_ranks
from raekit import distributed
from raekit.training.optim import OptimConfig, Updater
from raekit.training.parallel.reducer import Reducer


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.full((n,), float(n))) for n in (3, 2, 5, 1)]


def loss(held: list[nn.Parameter], rank: int) -> Tensor:
    """The last weight is reached on one process only; the gradients are the process's number and 1."""
    reached = held if rank == 0 else held[:-1]
    return torch.stack([(p * (rank + 1)).sum() for p in reached]).sum()


def meet() -> None:
    distributed.join(torch.device("cpu"))
    rank = distributed.rank()
    for bucket_bytes in (1, 20, 2**20):
        held = weights()
        reducer = Reducer(held, bucket_bytes)
        for is_armed in (True, False, True):
            for p in held:
                p.grad = None
            loss(held, rank).backward()  # an earlier micro-batch: nothing travels
            assert reducer._sent == 0
            if is_armed:
                reducer.arm()
            loss(held, rank).backward()
            assert (reducer._sent > 0) == (is_armed and rank == 0)  # elsewhere the first bucket is never full
            reducer.finish()
            for p, expected in zip(held, (3.0, 3.0, 3.0, 1.0), strict=True):
                assert p.grad is not None and p.grad.tolist() == [expected] * len(p)
    reducer.arm()
    if rank == 0:  # all has been sent by the first of two
        loss(held, rank).backward()
        with pytest.raises(RuntimeError, match="second gradient"):
            loss(held, rank).backward()
    reducer.finish()


def stepped(held: list[nn.Parameter]) -> list[Tensor]:
    """The weights after three steps, in the second of which no process reaches the last weight."""
    updater = Updater({f"{i}.weight": p for i, p in enumerate(held)}, OptimConfig(lr=0.1, weight_decay=0.1), 10)
    reducer = Reducer(held)
    for step in range(3):
        updater.zero_grad()
        torch.stack([(p * (step + 1)).sum() for p in (held[:-1] if step == 1 else held)]).sum().backward()
        reducer.finish()
        updater.clip()
        updater.update(step)
    return [p.detach() for p in held]


def step_together(path: str) -> None:
    distributed.join(torch.device("cpu"))
    torch.save(stepped(weights()), f"{path}/{distributed.rank()}.pt")


def test_a_step_without_a_gradient_moves_a_weight_alike_on_one_process_and_on_two(tmp_path: Path) -> None:
    two_ranks.run(step_together, str(tmp_path))
    alone = stepped(weights())
    for rank in (0, 1):
        for one, other in zip(alone, torch.load(tmp_path / f"{rank}.pt", weights_only=True), strict=True):
            assert torch.equal(one, other)


def test_two_processes_meet_in_the_mean() -> None:
    two_ranks.run(meet)


def test_a_single_process_keeps_what_it_has() -> None:
    weight = nn.Parameter(torch.ones(2))
    reducer = Reducer([weight])
    reducer.arm()
    reducer.finish()
    assert not reducer.buckets and weight.grad is None
