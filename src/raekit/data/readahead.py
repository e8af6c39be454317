"""Work done ahead of need, on threads of its own.

In: numbered pieces (shards, blocks of rows, batches) and a function that makes one. Out: the pieces, whenever they are
asked for. :class:`ReadAhead` keeps the last few and starts on those that it is told will come; :func:`in_order` goes
through a sequence, always a few pieces ahead of its caller.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ReadAhead(Generic[K, V]):
    """Pieces by key; any number of threads may ask.

    Args:
        make: makes a piece; runs in a thread of this object. Its errors are raised in whoever asks for the piece, and
            the next one to ask has it tried again.
        threads: pieces that are made at once.
        keep: pieces held; those not asked for the longest go first.
    """

    def __init__(self, make: Callable[[K], V], threads: int, keep: int) -> None:
        self._make = make
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._keep = keep
        self._held: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V:
        """The piece, made now if it is not there yet."""
        future = self._started(key)
        try:
            return future.result()
        except BaseException:
            with self._lock:
                if self._held.get(key) is future:
                    del self._held[key]
            raise

    def expect(self, keys: Iterable[K]) -> None:
        """These will be asked for soon; more than are kept would push each other out, so the rest is not started."""
        for key in list(keys)[: max(self._keep - 1, 1)]:
            self._started(key)

    def _started(self, key: K) -> Future[V]:
        with self._lock:
            future = self._held.pop(key, None)
            if future is None or future.cancelled():
                future = self._executor().submit(self._make, key)
            self._held[key] = future
            while len(self._held) > self._keep:
                _, old = self._held.popitem(last=False)
                old.cancel()
            return future

    def _executor(self) -> ThreadPoolExecutor:
        """Made at the first need: a data set that is only described starts no thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="read-ahead")
        return self._pool


def in_order(make: Callable[[K], V], keys: Iterable[K], threads: int, ahead: int) -> Iterator[V]:
    """``make`` of each key, in order, computed by threads up to ``ahead`` pieces before they are taken.

    Closing the iterator cancels what has not begun.
    """
    waiting = deque[Future[V]]()
    with ThreadPoolExecutor(threads, thread_name_prefix="data") as pool:
        try:
            for key in keys:
                waiting.append(pool.submit(make, key))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
