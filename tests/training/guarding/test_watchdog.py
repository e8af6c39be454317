"""A hang is reported with its stacks and ends the process, in steps and in long work; nothing else is taken for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch._dynamo.callback import CallbackTrigger, callback_handler

from raekit import liveness
from raekit.training.guarding.watchdog import EXIT_STUCK, PATIENCE, Watchdog

SECONDS = 0.4
LONG = SECONDS / PATIENCE
"""Seconds of which a phase may be silent for :data:`SECONDS`."""


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
        steps = dog.watching(iter([1]))
        next(steps)
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


def test_a_hang_in_long_work_is_told_by_its_name(left: Left, tmp_path: Path) -> None:
    start = time.monotonic()
    with Watchdog(LONG, tmp_path, leave=left) as dog:
        with dog.phase("saving a checkpoint"), liveness.phase("writing a file"):
            a_call_that_hangs(left)
    assert left.codes == [EXIT_STUCK] and time.monotonic() - start > SECONDS
    report = (tmp_path / "stuck_rank_0.txt").read_text()
    assert (
        f"{PATIENCE} times train.stuck_after_seconds) while writing a file" in report and "a_call_that_hangs" in report
    )


def test_what_goes_on_beside_a_step_does_not_keep_it_alive(left: Left, tmp_path: Path) -> None:
    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        steps = dog.watching(iter([1]))
        next(steps)
        end = time.monotonic() + 20
        while not left.is_set.wait(SECONDS / 8) and time.monotonic() < end:
            liveness.sign_of_life()
    assert left.codes == [EXIT_STUCK]


def test_the_number_of_a_process_that_has_not_joined_is_the_launchers(
    left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    with Watchdog(LONG, tmp_path / "run", leave=left) as dog, dog.phase("joining the other processes"):
        a_call_that_hangs(left)
    assert "process 3 is stuck" in (tmp_path / "run" / "stuck_rank_3.txt").read_text()


def quiet_for_long(dog: Watchdog) -> None:
    with dog.phase("evaluating"):
        time.sleep(2.5 * SECONDS)


def quiet_before_the_first_step_and_after_the_last(dog: Watchdog) -> None:
    time.sleep(1.5 * SECONDS)
    for _ in dog.watching(iter([1])):
        pass
    time.sleep(1.5 * SECONDS)


def long_work_that_gets_on(dog: Watchdog) -> None:
    with Watchdog(LONG, dog.run, leave=dog._leave) as other, other.phase("filling a cache"):
        for _ in range(10):
            time.sleep(SECONDS / 4)
            liveness.sign_of_life()


def a_wait_for_others(dog: Watchdog) -> None:
    with Watchdog(LONG, dog.run, leave=dog._leave) as other, other.phase("exporting"):
        with liveness.bounded_elsewhere():
            time.sleep(2.5 * SECONDS)


def signs_of_life(dog: Watchdog) -> None:
    for _ in dog.watching(iter(range(10))):
        time.sleep(SECONDS / 4)


def nothing_after_the_end(dog: Watchdog) -> None:
    dog.__exit__(None, None, None)
    time.sleep(2.5 * SECONDS)


HARMLESS = [
    quiet_for_long,
    quiet_before_the_first_step_and_after_the_last,
    long_work_that_gets_on,
    a_wait_for_others,
    signs_of_life,
    nothing_after_the_end,
]


@pytest.mark.parametrize("harmless", HARMLESS)
def test_no_false_alarm(harmless: Callable[[Watchdog], None], left: Left, tmp_path: Path) -> None:
    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        harmless(dog)
    assert not left.codes and not list(tmp_path.iterdir())


def test_the_silence_of_a_step_counts_from_the_end_of_long_work(left: Left, tmp_path: Path) -> None:
    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        steps = dog.watching(iter([1]))
        next(steps)
        quiet_for_long(dog)
        start = time.monotonic()
        a_call_that_hangs(left)
    assert SECONDS < time.monotonic() - start < PATIENCE * SECONDS


def test_a_wait_for_others_in_a_step_is_no_excuse_nor_is_that_of_another_thread(left: Left, tmp_path: Path) -> None:
    def wait() -> None:
        with liveness.bounded_elsewhere():
            left.is_set.wait(20)

    with Watchdog(SECONDS, tmp_path, leave=left) as dog:
        steps = dog.watching(iter([1]))
        next(steps)
        wait()
    with Watchdog(LONG, tmp_path, leave=left) as dog, dog.phase("saving a checkpoint"):
        left.is_set.clear()
        threading.Thread(target=wait).start()
        a_call_that_hangs(left)
    assert left.codes == 2 * [EXIT_STUCK]


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
    dog = Watchdog(60.0, tmp_path, leave=left, clock=naps.clock)
    steps = dog.watching(iter([1]))
    next(steps)
    dog._watch(60.0, naps.wait)
    assert left.codes == codes


def test_off_is_off(left: Left, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Watchdog(None, tmp_path, leave=left):
        assert not set(threading.enumerate()) - before


def test_compiling_is_long_work(left: Left, tmp_path: Path) -> None:
    with Watchdog(60.0, tmp_path, is_compiled=True, leave=left) as dog:
        with callback_handler.install_callbacks(CallbackTrigger.DYNAMO, "0/0"):  # as torch.compile does
            assert dog.doing == "compiling"
        assert dog.doing != "compiling"
    with callback_handler.install_callbacks(CallbackTrigger.DYNAMO, "0/0"):
        assert dog.doing != "compiling"
