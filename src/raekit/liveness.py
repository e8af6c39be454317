"""Signs of life of long work, for whoever watches whether a run hangs.

In: code that may honestly work for hours says, each time that a part of it is done, that it is alive; what it is about
to do; or that it waits for somebody who is watched himself. Out: all of that reaches the watchers of this process (the
watchdog of a training run). Where nobody watches, nothing happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol


class Watcher(Protocol):
    """Somebody who wants to know."""

    def sign(self) -> None:
        """Long work has come a step further."""

    def phase(self, doing: str) -> AbstractContextManager[None]:
        """Within the block long work is done; ``doing`` says in a few words which."""

    def excused(self) -> AbstractContextManager[None]:
        """Within the block this thread waits for what has a limit of its own."""


_watchers: list[Watcher] = []


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Within the block the watcher hears of everything."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def sign_of_life() -> None:
    """A part of some long work is done; from any thread."""
    for watcher in tuple(_watchers):
        watcher.sign()


@contextmanager
def phase(doing: str) -> Iterator[None]:
    """Within the block long work is done.

    Args:
        doing: what, in a few words that go on after "while".
    """
    with ExitStack() as phases:
        for watcher in tuple(_watchers):
            phases.enter_context(watcher.phase(doing))
        yield


@contextmanager
def bounded_elsewhere() -> Iterator[None]:
    """Within the block this thread waits for other processes, which are watched too, or for what has a timeout."""
    with ExitStack() as waits:
        for watcher in tuple(_watchers):
            waits.enter_context(watcher.excused())
        yield
