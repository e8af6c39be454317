"""Whoever watches hears of parts done, of phases and of waits, as long as he watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raekit import liveness


class Heard:
    """Writes down all that it hears."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def sign(self) -> None:
        self.words.append("sign")

    @contextmanager
    def phase(self, doing: str) -> Iterator[None]:
        self.words.append(doing)
        yield
        self.words.append(f"no longer {doing}")

    @contextmanager
    def excused(self) -> Iterator[None]:
        self.words.append("waiting")
        yield
        self.words.append("no longer waiting")


def everything() -> None:
    with liveness.phase("reading"):
        liveness.sign_of_life()
        with liveness.bounded_elsewhere():
            pass


def test_every_watcher_hears_while_it_watches() -> None:
    one, other = Heard(), Heard()
    everything()
    with liveness.watched_by(one):
        with liveness.watched_by(other):
            everything()
        liveness.sign_of_life()
    everything()
    assert other.words == ["reading", "sign", "waiting", "no longer waiting", "no longer reading"]
    assert one.words == [*other.words, "sign"]
