"""Work that is shared out comes back in order, whole, once; a mistake reaches everybody; nothing is shared unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import two_ranks
from raekit import distributed, shares
from raekit.errors import UserError

ITEMS = [3, 1, 4, 1, 5]


@dataclass(frozen=True)
class Found:
    """A result as evaluations have them."""

    of: int
    rows: dict[str, Tensor]


def look(item: int) -> Found:
    return Found(item, {"square": torch.arange(100).float()[item : item + 1] ** 2})


def test_one_process_does_all_one_after_the_other() -> None:
    done: list[int] = []
    with shares.sharing():
        found = shares.each(lambda item: done.append(item) or item, ITEMS)
        assert next(found) == 3 and done == [3]
        assert list(found) == ITEMS[1:] and done == ITEMS
        assert (shares.world(), shares.rank(), shares.is_sharing()) == (1, 0, False)


def share_out() -> None:
    distributed.join(torch.device("cpu"))
    done: list[int] = []
    assert list(shares.each(lambda item: done.append(item) or item, ITEMS)) == ITEMS == done  # nobody asked to share
    done.clear()

    def work(item: int) -> Found:
        done.append(item)
        assert not shares.is_sharing() and list(shares.each(lambda one: one, ITEMS)) == ITEMS
        return look(item)

    with shares.sharing(), shares.sharing():
        found = list(shares.each(work, ITEMS))
        assert list(shares.each(work, ())) == []
    assert done == ITEMS[distributed.rank() :: 2]
    assert [(one.of, one.rows["square"].item()) for one in found] == [(item, item**2) for item in ITEMS]
    assert found[0].rows["square"].untyped_storage().nbytes() == 4
    assert not shares.is_sharing()


def test_two_processes_share_out_when_asked_and_have_all_results_in_order() -> None:
    two_ranks.run(share_out)


def fail(action: Callable[[], object], match: str, kind: type[Exception] = UserError) -> None:
    with pytest.raises(kind, match=match), shares.sharing():
        action()
    assert not shares.is_sharing()


def go_wrong() -> None:
    distributed.join(torch.device("cpu"))
    rank = distributed.rank()

    def refuse(item: int) -> int:
        if item == 1:
            raise UserError("item 1: is bad; take another")
        return item

    fail(lambda: list(shares.each(refuse, ITEMS)), "item 1: is bad; take another")

    def late() -> None:  # after the other has done all it had to do
        if rank == 0:
            raise UserError("disk: full")

    fail(late, "disk: full")

    def break_down() -> None:
        if rank == 1:
            raise RuntimeError("bug")
        list(shares.each(look, ITEMS))

    fail(break_down, "bug" if rank else "process 1 failed with RuntimeError", (UserError, RuntimeError)[rank])
    fail(lambda: list(shares.each(look, ITEMS[rank:])), "one is at 5 batches where another is at 4 batches")
    # After all that, they still understand each other.
    with shares.sharing():
        assert [one.of for one in shares.each(look, ITEMS)] == ITEMS
    assert dist.is_initialized()


def test_a_mistake_of_one_process_ends_the_work_of_all() -> None:
    two_ranks.run(go_wrong)
