"""A watchdog: a run that hangs says where, and ends, so that a scheduler can start it again.

In: a sign of life at every micro-batch and every step. Out: nothing, as long as they come. When none came for
``train.stuck_after_seconds`` the process writes the stack of each of its threads to ``stuck_rank_N.txt`` in the run
directory and to stderr, and leaves with code 75 ("try again later" of sysexits.h). What usually hangs is a reader on a
file system or a network that does not answer, or a collective that waits for a process which hangs or is gone.

Evaluation, saving and compiling take as long as they take and are not watched, nor is the time in which the whole
process was stopped (a suspended job, a debugger). A hang inside native code that never lets go of Python's lock is not
seen: nothing in Python runs then.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from raekit import distributed

T = TypeVar("T")

EXIT_STUCK = 75
"""Exit code of a process that hung."""
LOOKS = 20
"""How often the watchdog looks, per time that it waits for; at least every :data:`LONGEST_NAP` seconds."""
LONGEST_NAP = 5.0
WRITING_SECONDS = 20.0
"""Most time for the report: the file system it goes to may be what hangs."""


class Watchdog:
    """Watches while it is entered.

    Args:
        seconds: without a sign of life after which the process is stuck; None = never.
        run: the run directory.
        is_compiled: whether ``torch.compile`` is used; its work is then not watched.
        leave: called with the exit code.
        clock: in seconds.
    """

    def __init__(
        self,
        seconds: float | None,
        run: Path,
        is_compiled: bool = False,
        leave: Callable[[int], None] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.run, self._leave, self._clock = seconds, run, leave, clock
        self._last = clock()
        self._doing = "starting"
        self._num_pauses = 0
        self._lock = threading.Lock()
        self._is_compiled = is_compiled
        self._entered = ExitStack()

    def __enter__(self) -> Watchdog:
        self.beat("starting")
        if self.seconds is None:
            return self
        is_done = threading.Event()
        self._entered.callback(is_done.set)
        if self._is_compiled:
            self._entered.enter_context(paused_while_compiling(self))
        threading.Thread(target=self._watch, args=(self.seconds, is_done.wait), name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def beat(self, doing: str) -> None:
        """A sign of life, and what is done from here on, in a few words."""
        self._last, self._doing = self._clock(), doing

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not watch within the block, for what may take long."""
        self.pause()
        try:
            yield
        finally:
            self.go_on()

    def pause(self) -> None:
        """Stop watching, until :meth:`go_on` was called as often as this."""
        with self._lock:
            self._num_pauses += 1

    def go_on(self) -> None:
        """Watch again, from now."""
        with self._lock:
            self._num_pauses -= 1
            self._last = self._clock()

    def watching(self, items: Iterator[T]) -> Generator[T, None, None]:
        """The same items; a wait for one of them, and the work on it, are known for what they are."""
        while True:
            self.beat("waiting for data")
            try:
                item = next(items)
            except StopIteration:
                return
            self.beat("a training step")
            yield item

    def _watch(self, seconds: float, is_done_after: Callable[[float], bool]) -> None:
        nap = min(seconds / LOOKS, LONGEST_NAP)
        before = self._clock()
        while not is_done_after(nap):
            now = self._clock()
            stopped = now - before - nap
            if stopped > max(seconds / 2, nap):  # nothing ran here either: the process itself was stopped
                self._last += stopped
            before = now
            if self._num_pauses == 0 and now - self._last > seconds:
                self._give_up(now - self._last)
                return

    def _give_up(self, silence: float) -> None:
        """Say where every thread is, and leave, even if that cannot be said."""
        late = threading.Timer(WRITING_SECONDS, self._leave, (EXIT_STUCK,))
        late.daemon = True
        late.start()
        path = self.run / f"stuck_rank_{distributed.rank()}.txt"
        words = (
            f"error: process {distributed.rank()} is stuck: no sign of life for {silence:.0f} s "
            f"(train.stuck_after_seconds) while {self._doing}; the stack of each thread follows and is in {path}; "
            f"--resume goes on from the last checkpoint; exit code {EXIT_STUCK}\n"
        )
        stderr = sys.__stderr__
        if stderr is not None:
            stderr.write(words)
            stderr.flush()
            faulthandler.dump_traceback(stderr)
        try:
            with path.open("w", encoding="utf-8") as file:
                file.write(words)
                file.flush()
                faulthandler.dump_traceback(file)
        except OSError:
            pass  # it is on stderr already, and a full disk is no reason to go on hanging
        late.cancel()
        self._leave(EXIT_STUCK)


@contextmanager
def paused_while_compiling(watchdog: Watchdog) -> Iterator[None]:
    """Within the block the watchdog does not watch while ``torch.compile`` is at work."""
    from torch._dynamo.callback import callback_handler

    def pause(event: object) -> None:
        del event
        watchdog.pause()

    def go_on(event: object) -> None:
        del event
        watchdog.go_on()

    callback_handler.register_start_callback(pause)
    callback_handler.register_end_callback(go_on)
    try:
        yield
    finally:
        callback_handler.remove_start_callback(pause)
        callback_handler.remove_end_callback(go_on)
