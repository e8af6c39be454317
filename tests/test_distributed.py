"""One process is left alone; two meet in the mean, and wait for each other however long it takes."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

import two_ranks
from raekit import distributed
from raekit.errors import UserError


def test_a_single_process_is_its_own_mean() -> None:
    assert (distributed.rank(), distributed.world(), distributed.is_main()) == (0, 1, True)
    assert distributed.join(torch.device("cpu")) == torch.device("cpu")
    assert distributed.gathered("it") == ["it"]


def test_an_explicit_device_beside_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="write cuda"):
        distributed.join(torch.device("cuda", 1))


@pytest.mark.parametrize(("name", "current"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_the_gpu_of_a_run_is_the_current_one(name: str, current: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in distributed.LAUNCHER_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    settled: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: settled.append(str(device)))
    assert distributed.join(torch.device(name)) == torch.device(name)
    assert settled == current


def meet() -> None:
    distributed.join(torch.device("cpu"))
    rank = distributed.rank()
    values = [torch.full((2, 3), float(rank)), torch.tensor(2.0 * rank), torch.tensor([rank], dtype=torch.float64)]
    distributed.average(values)
    assert values[0].tolist() == [[0.5] * 3] * 2 and values[1] == 1.0 and values[2].item() == 0.5
    assert distributed.gathered({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    # What NCCL does after ten minutes, here after half a second: it ends whoever waits among the accelerators.
    _set_pg_timeout(timedelta(seconds=0.5), dist.group.WORLD)
    time.sleep(2 * (rank == 0))
    distributed.barrier()


def test_two_processes_meet_in_the_mean() -> None:
    two_ranks.run(meet)
