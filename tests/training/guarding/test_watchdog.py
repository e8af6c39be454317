"""A hang is reported with its stacks and ends the process; nothing else is taken for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch._dynamo.callback import CallbackTrigger, callback_handler

from raekit.training.guarding.watchdog import EXIT_STUCK, Watchdog

SECONDS = 0.4


class Left:
    """Remembers that the process would have left, and with which code."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.is_set = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.is_set.set()


@pytest.fixture
def left() -> Left:
    return Left()


def a_call_that_hangs(left: Left) -> None:
    assert left.is_set.wait(20)


def test_a_hang_writes_every_stack_and_leaves_with_its_code(
    left: Left, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        next(dog.watching(iter([1])))
        a_call_that_hangs(left)
    assert left.codes == [EXIT_STUCK]
    report = (tmp_path / "stuck_rank_0.txt").read_text()
    for text in (report, capfd.readouterr().err):
        assert "process 0 is stuck" in text and "while a training step" in text
        assert "a_call_that_hangs" in text and "_watch" in text


def test_a_wait_for_data_is_told_apart_and_a_bad_disk_is_no_excuse(left: Left, tmp_path: Path) -> None:
    def stuck() -> object:
        assert left.is_set.wait(20)
        return None

    with Watchdog(SECONDS, tmp_path / "gone", leave=left) as dog:
        next(dog.watching(iter(stuck, 1)))
    assert left.codes == [EXIT_STUCK]


def quiet_for_long(dog: Watchdog) -> None:
    with dog.paused(), dog.paused():
        time.sleep(2.5 * SECONDS)


def signs_of_life(dog: Watchdog) -> None:
    for _ in dog.watching(iter(range(10))):
        time.sleep(SECONDS / 4)


def nothing_after_the_end(dog: Watchdog) -> None:
    dog.__exit__(None, None, None)
    time.sleep(2.5 * SECONDS)


@pytest.mark.parametrize("harmless", [quiet_for_long, signs_of_life, nothing_after_the_end])
def test_no_false_alarm(harmless: Callable[[Watchdog], None], left: Left, tmp_path: Path) -> None:
    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        harmless(dog)
    assert not left.codes and not list(tmp_path.iterdir())


def test_the_silence_counts_from_the_end_of_a_pause(left: Left, tmp_path: Path) -> None:
    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        quiet_for_long(dog)
        start = time.monotonic()
        a_call_that_hangs(left)
    assert time.monotonic() - start > SECONDS


class Naps:
    """A clock, and naps that end at given times on it."""

    def __init__(self, *ends: float) -> None:
        self.now, self._ends = 0.0, list(ends)

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        del seconds
        if self._ends:
            self.now = self._ends.pop(0)
            return False
        return True


AWAKE = tuple(float(end) for end in range(3600, 3680, 3))


@pytest.mark.parametrize(("ends", "codes"), [((3600.0, 3603.0), []), ((3.0, *AWAKE), [EXIT_STUCK])])
def test_time_in_which_the_process_was_stopped_does_not_count(
    ends: tuple[float, ...], codes: list[int], left: Left, tmp_path: Path
) -> None:
    naps = Naps(*ends)
    Watchdog(60.0, tmp_path, leave=left, clock=naps.clock)._watch(60.0, naps.wait)
    assert left.codes == codes


def test_off_is_off(left: Left, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Watchdog(None, tmp_path, leave=left):
        assert not set(threading.enumerate()) - before


def test_compiling_is_not_watched(left: Left, tmp_path: Path) -> None:
    with Watchdog(60.0, tmp_path, is_compiled=True, leave=left) as dog:
        with callback_handler.install_callbacks(CallbackTrigger.DYNAMO, "0/0"):  # as torch.compile does
            assert dog._num_pauses == 1
        assert dog._num_pauses == 0
    with callback_handler.install_callbacks(CallbackTrigger.DYNAMO, "0/0"):
        assert dog._num_pauses == 0
