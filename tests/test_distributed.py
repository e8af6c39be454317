"""One process is left alone; two meet in the mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import two_ranks
from raekit import distributed
from raekit.errors import UserError


def test_a_single_process_is_its_own_mean() -> None:
    weight = nn.Parameter(torch.zeros(2))
    assert (distributed.rank(), distributed.world(), distributed.is_main()) == (0, 1, True)
    assert distributed.join(torch.device("cpu")) == torch.device("cpu")
    distributed.average_gradients([weight])
    assert weight.grad is None


def test_an_explicit_device_beside_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="write cuda"):
        distributed.join(torch.device("cuda", 1))


def meet() -> None:
    distributed.join(torch.device("cpu"))
    rank = distributed.rank()
    values = [torch.full((2, 3), float(rank)), torch.tensor(2.0 * rank), torch.tensor([rank], dtype=torch.float64)]
    distributed.average(values)
    assert values[0].tolist() == [[0.5] * 3] * 2 and values[1] == 1.0 and values[2].item() == 0.5
    reached, unreached = (nn.Parameter(torch.ones(2)) for _ in range(2))
    if rank == 0:
        reached.grad = torch.full((2,), 4.0)
    distributed.average_gradients([reached, unreached])
    assert reached.grad is not None and reached.grad.tolist() == [2.0, 2.0]
    assert unreached.grad is not None and not unreached.grad.any()


def test_two_processes_meet_in_the_mean() -> None:
    two_ranks.run(meet)
