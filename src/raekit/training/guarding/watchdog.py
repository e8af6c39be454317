"""A watchdog: a run that hangs says where, and ends, so that a scheduler can start it again.

In: a sign of life at every micro-batch and every step, and, in long work, whenever a part of it is done
(``liveness.py``). Out: nothing, as long as they come. When none came for ``train.stuck_after_seconds``, or in long work
for :data:`PATIENCE` times that, the process writes the stack of each of its threads to ``stuck_rank_N.txt`` in the run
directory and to stderr, and leaves with code 75 ("try again later" of sysexits.h). What usually hangs is a file system
or a network that does not answer, or a collective that waits for a process which hangs or is gone.

Long work is all but the steps: starting, evaluation, pictures, saving, compiling, exporting. A host that waits there
for another one is not stuck, as the other is watched itself; nor is a process that was stopped for a while (a
suspended job, a debugger). A hang inside native code that never lets go of Python's lock is not seen: nothing in Python
runs then.
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
from raekit.liveness import watched_by

T = TypeVar("T")

EXIT_STUCK = 75
"""Exit code of a process that hung."""
PATIENCE = 10
"""Times ``train.stuck_after_seconds`` that long work may go on without a sign of life: 80 minutes by default, in which
the slowest disks write the largest checkpoint of a process."""
LOOKS = 20
"""How often the watchdog looks, per ``train.stuck_after_seconds``; at least every :data:`LONGEST_NAP` seconds."""
LONGEST_NAP = 5.0
WRITING_SECONDS = 20.0
"""Most time for the report: the file system it goes to may be what hangs."""


class Watchdog:
    """Watches while it is entered, which may be more than once, one after the other.

    Args:
        seconds: without a sign of life after which a process in the midst of its steps is stuck; None = never.
        run: the run directory.
        is_compiled: whether ``torch.compile`` is used; its work is long.
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
        self._phases: list[str] = []
        self._is_stepping, self._is_excused = False, False
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._is_compiled = is_compiled
        self._entered = ExitStack()

    def __enter__(self) -> Watchdog:
        self.beat(self._doing)
        self._thread = threading.get_ident()
        if self.seconds is None:
            return self
        is_done = threading.Event()
        self._entered.callback(is_done.set)
        self._entered.enter_context(watched_by(self))
        if self._is_compiled:
            self._entered.enter_context(phase_while_compiling(self))
        threading.Thread(target=self._watch, args=(self.seconds, is_done.wait), name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    @property
    def doing(self) -> str:
        """What is done now, in a few words."""
        return self._phases[-1] if self._phases else self._doing

    def beat(self, doing: str) -> None:
        """A sign of life, and what is done from here on, in a few words."""
        self._last, self._doing = self._clock(), doing

    def sign(self) -> None:
        """A sign of life in long work, from any thread; a step is not alive because something else goes on."""
        if self._is_patient:
            self._last = self._clock()

    @contextmanager
    def phase(self, doing: str) -> Iterator[None]:
        """Long work, within the block."""
        self.begin(doing)
        try:
            yield
        finally:
            self.end(doing)

    def begin(self, doing: str) -> None:
        """Long work begins, until :meth:`end` is called with the same words."""
        with self._lock:
            self._phases.append(doing)
            self._last = self._clock()

    def end(self, doing: str) -> None:
        """It is done; what was done before it goes on, from now."""
        with self._lock:
            self._phases.remove(doing)
            self._last = self._clock()

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Does not watch within the block, in long work of the thread that entered."""
        if threading.get_ident() != self._thread or not self._is_patient or self._is_excused:
            yield
            return
        self._is_excused = True
        try:
            yield
        finally:
            self._last, self._is_excused = self._clock(), False

    def watching(self, items: Iterator[T]) -> Generator[T, None, None]:
        """The same items; a wait for one of them, and the work on it, are known for what they are.

        These are the steps, until the generator is closed.
        """
        self._is_stepping = True
        try:
            while True:
                self.beat("waiting for data")
                try:
                    item = next(items)
                except StopIteration:
                    return
                self.beat("a training step")
                yield item
        finally:
            self._is_stepping = False
            self.beat("between steps and the end")

    @property
    def _is_patient(self) -> bool:
        return bool(self._phases) or not self._is_stepping

    def _watch(self, seconds: float, is_done_after: Callable[[float], bool]) -> None:
        nap = min(seconds / LOOKS, LONGEST_NAP)
        before = self._clock()
        while not is_done_after(nap):
            now = self._clock()
            stopped = now - before - nap
            if stopped > max(seconds / 2, nap):  # nothing ran here either: the process itself was stopped
                self._last += stopped
            before = now
            limit = seconds * PATIENCE if self._is_patient else seconds
            if not self._is_excused and now - self._last > limit:
                self._give_up(now - self._last)
                return

    def _give_up(self, silence: float) -> None:
        """Say where every thread is, and leave, even if that cannot be said."""
        late = threading.Timer(WRITING_SECONDS, self._leave, (EXIT_STUCK,))
        late.daemon = True
        late.start()
        rank, times = distributed.announced_rank(), f"{PATIENCE} times " if self._is_patient else ""
        path = self.run / f"stuck_rank_{rank}.txt"
        words = (
            f"error: process {rank} is stuck: no sign of life for {silence:.0f} s "
            f"({times}train.stuck_after_seconds) while {self.doing}; the stack of each thread follows "
            f"and is in {path}; --resume goes on from the last checkpoint; exit code {EXIT_STUCK}\n"
        )
        stderr = sys.__stderr__
        if stderr is not None:
            stderr.write(words)
            stderr.flush()
            faulthandler.dump_traceback(stderr)
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                file.write(words)
                file.flush()
                faulthandler.dump_traceback(file)
        except OSError:
            pass  # it is on stderr already, and a full disk is no reason to go on hanging
        late.cancel()
        self._leave(EXIT_STUCK)


@contextmanager
def phase_while_compiling(watchdog: Watchdog) -> Iterator[None]:
    """Within the block ``torch.compile`` is long work whenever it is at work."""
    from torch._dynamo.callback import callback_handler

    def begin(event: object) -> None:
        del event
        watchdog.begin("compiling")

    def end(event: object) -> None:
        del event
        watchdog.end("compiling")

    callback_handler.register_start_callback(begin)
    callback_handler.register_end_callback(end)
    try:
        yield
    finally:
        callback_handler.remove_start_callback(begin)
        callback_handler.remove_end_callback(end)
