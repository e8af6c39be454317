"""Signals ask once per step; the handlers of before come back."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from raekit.training.saving.signals import EXIT_CODE_OVERDUE, STOP_SIGNALS, StopRequest


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_asks_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(s) for s in STOP_SIGNALS]
    with StopRequest() as stop:
        assert not stop.asked()
        os.kill(os.getpid(), number)
        assert stop.asked()
    assert [signal.getsignal(s) for s in STOP_SIGNALS] == before


def test_a_run_that_cannot_save_in_time_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []
    over = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: (ended.append(code), over.set()))
    with StopRequest(seconds=0.05) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked() and over.wait(10)
    assert ended == [EXIT_CODE_OVERDUE] and "SIGUSR1: not saved within 0.05 s" in caplog.text


def test_a_run_that_saves_in_time_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with StopRequest(seconds=0.2):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.4)
    assert not ended


def test_a_second_ctrl_c_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_hears_nothing_and_breaks_nothing() -> None:
    heard: list[bool] = []

    def listen() -> None:
        with StopRequest() as stop:
            heard.append(stop.asked())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert heard == [False]
