from __future__ import annotations

import threading
import time
from itertools import count, islice

import pytest

from raekit.data.readahead import ReadAhead, in_order


def test_pieces_are_made_once_and_the_oldest_goes_first() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key * 10

    pieces = ReadAhead(make, threads=1, keep=2)
    assert [pieces.get(key) for key in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert made == [1, 2, 3, 2]


def test_what_is_expected_is_made_before_it_is_asked_for() -> None:
    begun = threading.Event()
    pieces = ReadAhead(lambda key: begun.set() or key, threads=1, keep=4)
    pieces.expect([7])
    assert begun.wait(5) and pieces.get(7) == 7


def test_expecting_more_than_is_kept_drops_nothing_that_was_begun() -> None:
    pieces = ReadAhead(lambda key: key, threads=1, keep=3)
    pieces.expect(range(100))
    assert list(pieces._held) == [0, 1]


def test_an_error_reaches_the_caller_and_is_tried_again() -> None:
    attempts = count()

    def make(key: int) -> int:
        if next(attempts) == 0:
            raise OSError("the network is down")
        return key

    pieces = ReadAhead(make, threads=1, keep=2)
    with pytest.raises(OSError, match="network"):
        pieces.get(5)
    assert pieces.get(5) == 5


def test_order_is_kept_whatever_the_threads_do() -> None:
    def make(key: int) -> int:
        time.sleep(0.002 * (key % 3))
        return key

    assert list(in_order(make, range(12), threads=3, ahead=4)) == list(range(12))
    assert list(islice(in_order(make, count(), threads=2, ahead=2), 3)) == [0, 1, 2]
