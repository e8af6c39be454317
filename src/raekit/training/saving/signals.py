"""Being asked to stop: Ctrl-C, and what schedulers send before they take a machine back.

In: SIGINT, SIGTERM, or SIGUSR1 (Slurm's ``--signal``), on any process of the run. Out: one question, "stop now?", that
the loop puts after each step and that every process answers alike; it then saves and leaves.

Several processes may hear a signal at different steps, or one alone may hear it. Each tells the others after its step,
and the answer is read one step later, so that nobody waits for the network: the run then stops one step after the one
in which it was asked to.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from raekit.training.parallel.peers import Peers

_log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that finish the step, save and leave."""
EXIT_CODE_OVERDUE = 128 + signal.SIGTERM
"""Of a run that had to be ended because its time was up."""


class StopRequest:
    """Listens for signals while it is entered; a second Ctrl-C interrupts at once.

    Only a program's main thread hears signals; in any other, or of another process, they are heard through the peers.

    Args:
        peers: all processes of the run, with nobody else talking through them.
        seconds: from SIGTERM or SIGUSR1 on, after which the process is ended if it is still here.
    """

    def __init__(self, peers: Peers | None = None, seconds: float | None = None) -> None:
        self._peers, self._seconds = peers or Peers(), seconds
        self._heard = threading.Event()
        self._deadline: threading.Timer | None = None
        self._before: dict[int, object] = {}
        self._answer: Callable[[], bool] | None = None
        self._is_asked = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
            for number in STOP_SIGNALS:
                signal.signal(number, self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None and error is None:
            self._answer()
        if self._deadline is not None:
            self._deadline.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def asked(self, must_stop: bool = False) -> bool:
        """Whether to stop before the next step, on every process alike; all of them ask after every step.

        Args:
            must_stop: this process asks for it, as if it had heard a signal.
        """
        if not self._is_asked:
            earlier, self._answer = self._answer, self._peers.any_soon(self._heard.is_set() or must_stop)
            is_alone = self._peers.world == 1
            self._is_asked = self._answer() if is_alone else earlier is not None and earlier()
        return self._is_asked

    def _listen(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._seconds is not None and self._deadline is None and number != signal.SIGINT:
            name = signal.Signals(number).name
            self._deadline = threading.Timer(self._seconds, _end, (name, self._seconds))
            self._deadline.daemon = True
            self._deadline.start()
        self._heard.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(name: str, seconds: float) -> None:
    _log.error(
        "%s: not saved within %g s (train.stop_seconds); ended without, --resume goes on from the last one",
        name,
        seconds,
    )
    logging.shutdown()
    os._exit(EXIT_CODE_OVERDUE)
