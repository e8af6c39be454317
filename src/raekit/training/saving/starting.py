"""Being asked to stop before there is anything to save: while a recipe, weights or data are read, or caches filled.

In: SIGTERM or SIGUSR1, on any process. Out: that process leaves with code 0, and writes nothing more: what it had begun
to write is removed, cache chunks that are there stay. Ctrl-C interrupts as ever.

Where Python does not come to hear of it, in a library's own code or in a thread that cannot be ended, the process is
ended after :data:`SECONDS` as it is, which a crash could do too: files are whole or absent.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

_log = logging.getLogger(__name__)

EARLY_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that end a process which has nothing to save."""
SECONDS = 10.0
"""Most time for leaving in order; launchers and schedulers seldom give less than thirty."""


class Starting:
    """Listens while it is entered, in a program's main thread; whoever listens within the block does so instead.

    Args:
        seconds: after which the process is ended if it is still here.
        end: ends it; called with the exit code.
    """

    def __init__(self, seconds: float = SECONDS, end: Callable[[int], None] = os._exit) -> None:
        self._seconds, self._end = seconds, end
        self._before: dict[int, object] = {}
        self._pipe: tuple[int, int] | None = None
        self._wakeup = -1

    def __enter__(self) -> Starting:
        if threading.current_thread() is threading.main_thread():
            # Python runs handlers between two of its own instructions, but writes into this pipe at once.
            self._pipe = reading, writing = os.pipe()
            os.set_blocking(writing, False)
            self._wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            threading.Thread(target=self._see_to_it, args=(reading,), name="starting", daemon=True).start()
            self._before = {number: signal.getsignal(number) for number in EARLY_SIGNALS}
            for number in EARLY_SIGNALS:
                signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Stopped):  # the end of the process is still to come, and may hang as well
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._pipe is not None:
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._pipe[1])  # which ends the thread

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        raise Stopped(signal.Signals(number).name)

    def _see_to_it(self, reading: int) -> None:
        """End the process some time after a signal that nobody else has listened to."""
        while heard := os.read(reading, 1):
            number = heard[0]
            if number in EARLY_SIGNALS and self._is_ours(number):
                time.sleep(self._seconds)
                if self._is_ours(number):
                    _log.warning("%s", Stopped(signal.Signals(number).name))
                    logging.shutdown()
                    self._end(0)
        os.close(reading)

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) == self._stop


class Stopped(SystemExit):
    """The process was asked to stop and had nothing to save; Python leaves with code 0.

    Args:
        name: of the signal.
    """

    def __init__(self, name: str) -> None:
        super().__init__(0)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} outside the steps of training: nothing is lost, the same command starts again"
