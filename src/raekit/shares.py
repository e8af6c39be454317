"""Work that several processes share out, and its results in the order that one process would have them in.

In: batches in order, and what becomes of one. Out: the result of each, in order, on every process. What is dealt out is
whole batches, cut as one process cuts them, so that each is computed with the same neighbours and comes to the same
bits; whoever sums the results up does so in the same order, and the number of processes shows in nothing but time.

Nothing is shared out unless it was asked for: outside of :func:`sharing` every process works by itself, also in a
process group, and so does whatever is called from inside a batch. Inside, all processes must do the same things in the
same order; a mistake that one of them makes is told to all, wherever they are, and none waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from raekit import distributed
from raekit.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

_is_sharing: ContextVar[bool] = ContextVar("is_sharing", default=False)


@dataclass(frozen=True)
class _Failure:
    """What a process says in place of its results."""

    sentence: str


class _Heard(UserError):
    """A mistake that every process knows of, and nobody need be told."""


@contextmanager
def sharing() -> Iterator[None]:
    """Share out the work of the block among all processes of the group, which must enter and leave it together.

    Raises:
        UserError: on every process, when one of them raised it or failed, or when they do different things.
    """
    if distributed.world() == 1 or _is_sharing.get():
        yield
        return
    token = _is_sharing.set(True)
    try:
        yield
        gathered(None, "the end")
    except _Heard as error:
        raise UserError(str(error)) from None
    except UserError as error:
        _tell(str(error))
        raise
    except Exception as error:
        _tell(f"process {distributed.rank()} failed with {type(error).__name__}; its own output says where")
        raise
    finally:
        _is_sharing.reset(token)


def is_sharing() -> bool:
    """Whether work is shared out here."""
    return _is_sharing.get()


def world() -> int:
    """Processes that share the work."""
    return distributed.world() if is_sharing() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return distributed.rank() if is_sharing() else 0


def own(items: Sequence[T]) -> Sequence[T]:
    """Those of ``items`` that are this process's: in each round, the one at its own number."""
    return items[rank() :: world()]


def num_rounds(items: Sequence[Any]) -> int:
    """Rounds in which ``items`` are worked on, each process one in a round; in the last, some may have none."""
    return -(-len(items) // world())


def each(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """``work(item)`` of every item in order, each computed by one process and given to all.

    Args:
        work: computes by itself: inside, nothing is shared out. Tensors of its result arrive on the CPU where several
            processes share.
        items: the same on every process.
    """
    mine, what = own(items), f"{len(items)} batches"
    for number in range(num_rounds(items)):
        yield from in_order(work, mine[number : number + 1], what)


def in_order(work: Callable[[T], R], mine: Sequence[T], what: str) -> Iterator[R]:
    """``work(item)`` of everybody's items of one round, by rank; arguments as for :func:`each`.

    Args:
        work: see :func:`each`.
        mine: this process's, often one or none.
        what: what all of them are doing, in words that are the same on every process.
    """
    if not is_sharing():
        yield from map(work, mine)
        return
    for found in gathered([_alone(work, item) for item in mine], what):
        yield from found


def gathered(value: T, what: str) -> list[T]:
    """Everybody's value by rank, where work is shared out; arguments as for :func:`in_order`.

    Raises:
        UserError: another process made a mistake, or is doing something else.
    """
    if not is_sharing():
        return [value]
    said: list[tuple[str, Any]] = distributed.gathered((what, _on_host(value)))
    for _, found in said:
        if isinstance(found, _Failure):
            raise _Heard(found.sentence)
    kinds = list(dict.fromkeys(kind for kind, _ in said))
    if len(kinds) > 1:
        raise _Heard(
            f"processes: one is at {kinds[0]} where another is at {kinds[1]}; start all with the same command, data "
            "and version of raekit"
        )
    return [found for _, found in said]


def _tell(sentence: str) -> None:
    """What went wrong here, to all the others, whatever they wait for."""
    distributed.gathered(("", _Failure(sentence)))


def _alone(work: Callable[[T], R], item: T) -> R:
    token = _is_sharing.set(False)
    try:
        return work(item)
    finally:
        _is_sharing.reset(token)


def _on_host(value: Any) -> Any:
    """The same with its tensors on the CPU, each with no more memory than its own numbers: both travel badly."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {name: _on_host(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_on_host(each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _on_host(getattr(value, field.name)) for field in fields(value)})
    return value
