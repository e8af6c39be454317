"""A loader's failure is known as early as items are held, and raised when they are used up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raekit.errors import UserError
from raekit.training.supply import OutOfData, Supply


def failing(count: int) -> Iterator[int]:
    yield from range(count)
    raise UserError("the shard is gone")


@pytest.mark.parametrize("ahead", [0, 1, 3, 9])
def test_all_that_was_read_is_given_before_the_failure_is_raised(ahead: int) -> None:
    supply, known = Supply(failing(5), ahead), []
    for expected in range(5):
        assert next(supply) == expected
        known.append(supply.failure is not None)
    assert known == [expected + ahead >= 5 for expected in range(5)]
    for _ in range(2):
        with pytest.raises(OutOfData, match="the shard is gone"):
            next(supply)


def test_an_end_is_an_end_and_closing_reaches_the_loader() -> None:
    assert list(Supply(iter([1, 2, 3]), 2)) == [1, 2, 3]
    items = failing(5)
    supply = Supply(items, 1)
    next(supply)
    supply.close()
    assert list(items) == []
