"""Micro-batches as the loader gives them, and what becomes of a run whose loader fails.

In: the loader's iterator. Out: the same micro-batches, some of them held in host memory, so that several processes hear
of a loader that has failed on one of them while all can still take the step at hand, and stop together after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from raekit.errors import UserError

T = TypeVar("T")


class OutOfData(UserError):
    """The loader has failed, and what it had given before is used up."""


class Supply(Generic[T]):
    """The same items, ``ahead`` of them held.

    Args:
        items: may end with a :class:`UserError`; closed with this.
        ahead: read before they are asked for.

    Attributes:
        failure: with which ``items`` ended; known ``ahead`` items before it is raised, as :class:`OutOfData`.
    """

    def __init__(self, items: Iterator[T], ahead: int = 0) -> None:
        self._items, self._ahead = items, ahead
        self._held: deque[T] = deque()
        self._is_over = False
        self.failure: UserError | None = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while not self._is_over and len(self._held) <= self._ahead:
            self._pull()
        if self._held:
            return self._held.popleft()
        if self.failure is not None:
            raise OutOfData(str(self.failure)) from self.failure
        raise StopIteration

    def close(self) -> None:
        """Close the items."""
        if hasattr(self._items, "close"):
            self._items.close()

    def _pull(self) -> None:
        try:
            self._held.append(next(self._items))
        except StopIteration:
            self._is_over = True
        except UserError as error:
            self._is_over, self.failure = True, error
