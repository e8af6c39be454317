"""Before there is anything to save a signal ends the process with code 0, whatever it is at."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from raekit.training.saving.signals import StopRequest
from raekit.training.saving.starting import EARLY_SIGNALS, Starting, Stopped


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in EARLY_SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


class Ended:
    """In place of the process's end."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.is_set = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.is_set.set()


@pytest.mark.parametrize("number", EARLY_SIGNALS)
def test_a_signal_leaves_with_code_0_and_what_hangs_on_the_way_out_is_ended(number: signal.Signals) -> None:
    ended = Ended()
    cleaned: list[bool] = []
    with pytest.raises(Stopped, match=f"{number.name} outside the steps") as stopped, Starting(0.05, ended):
        try:
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 5)
        finally:
            cleaned.append(True)
    assert stopped.value.code == 0 and cleaned == [True]
    assert ended.is_set.wait(20) and ended.codes == [0]


def test_a_program_that_does_not_hear_is_ended() -> None:
    ended = Ended()

    def deaf() -> None:
        """As within a library: what Python raises is lost."""
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 5)
        assert ended.is_set.wait(20)

    with Starting(0.05, ended):
        deaf()
    assert ended.codes == [0]


def test_whoever_listens_within_does_so_instead_and_the_handlers_come_back() -> None:
    before, ended = [signal.getsignal(number) for number in EARLY_SIGNALS], Ended()
    with Starting(0.05, ended):
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.asked() and not ended.is_set.wait(0.3)
    assert [signal.getsignal(number) for number in EARLY_SIGNALS] == before and signal.set_wakeup_fd(-1) == -1


def test_another_thread_hears_nothing_and_breaks_nothing() -> None:
    before = [signal.getsignal(number) for number in EARLY_SIGNALS]

    def listen() -> None:
        with Starting():
            assert [signal.getsignal(number) for number in EARLY_SIGNALS] == before

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
