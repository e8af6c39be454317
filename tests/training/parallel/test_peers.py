"""All processes decide alike and fail alike."""

from __future__ import annotations

import pytest
import torch

import two_ranks
from raekit import distributed
from raekit.errors import UserError
from raekit.training.parallel.peers import Peers


def test_a_single_process_agrees_with_itself() -> None:
    peers = Peers.meet()
    assert (peers.rank, peers.world, peers.gathered("a"), peers.by_each(lambda: 3)) == (0, 1, ["a"], [3])
    assert peers.by_first(lambda: 4) == 4
    assert peers.any_soon(True)() and not peers.any_soon(False)()


def talk() -> None:
    distributed.join(torch.device("cpu"))
    peers = Peers.meet()
    rank = distributed.rank()
    assert peers.gathered(rank) == [0, 1] and peers.by_each(lambda: 10 * rank) == [0, 10]
    assert peers.by_first(lambda: f"from {rank}") == "from 0"
    answers = [peers.any_soon(rank == 1), peers.any_soon(False)]
    assert [answer() for answer in answers] == [True, False]

    def fails_at_one() -> None:
        if rank == 1:
            raise UserError("disk of rank 1 is full")

    with pytest.raises(UserError, match="disk of rank 1 is full"):
        peers.by_each(fails_at_one)
    with pytest.raises(UserError, match="said by 0"):
        peers.by_first(lambda: _refuse(f"said by {rank}"))


def _refuse(text: str) -> None:
    raise UserError(text)


def test_two_processes_agree() -> None:
    two_ranks.run(talk)
