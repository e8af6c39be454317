"""What hangs outside the steps ends in bounded time too, and what is asked to stop before them ends at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import tiny_recipes
from raekit.training.guarding import watchdog
from raekit.training.guarding.watchdog import EXIT_STUCK
from raekit.training.loop import Trainer
from raekit.training.saving.starting import SECONDS

LONG_SECONDS = 1.0
"""What long work may be silent for here, while a step may take a minute."""


IMPATIENT = """
import transformers.models.auto.modeling_auto
import raekit.training.loop, raekit.training.stage2
from raekit.cli.app import main
from raekit.training.guarding import watchdog
watchdog.PATIENCE = 0.1
main()
"""


class Left:
    """In place of the process's end: lets go of what hangs, so that a test can end.

    Long work may be silent for :data:`LONG_SECONDS` from where it hangs, and a step for a minute.
    """

    def __init__(self, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[int] = []
        self._is_left = threading.Event()
        self._patch = monkeypatch
        monkeypatch.setattr(watchdog, "LONGEST_NAP", LONG_SECONDS / 10)
        trainer.watchdog._leave = self

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self._is_left.set()

    def hang_before(self, work: Callable[..., object]) -> Callable[..., object]:
        def hanging_work(*arguments: object) -> object:
            if not self.codes:
                self._patch.setattr(watchdog, "PATIENCE", LONG_SECONDS / 60)
                assert self._is_left.wait(60)
                self._patch.setattr(watchdog, "PATIENCE", 10)
            return work(*arguments)

        return hanging_work


def hang_in_saving(trainer: Trainer, left: Left) -> None:
    trainer.snapshots._write = left.hang_before(trainer.snapshots._write)  # type: ignore[method-assign,assignment]


def hang_in_evaluating(trainer: Trainer, left: Left) -> None:
    trainer.stage.evaluate = left.hang_before(trainer.stage.evaluate)  # type: ignore[method-assign,assignment]


def hang_in_exporting(trainer: Trainer, left: Left) -> None:
    trainer.stage.export = left.hang_before(trainer.stage.export)  # type: ignore[method-assign,assignment]


HANGS = [
    (hang_in_saving, "saving a checkpoint"),
    (hang_in_evaluating, "evaluating and drawing"),
    (hang_in_exporting, "exporting"),
]


@pytest.mark.parametrize(("hang", "doing"), HANGS)
def test_long_work_that_hangs_is_reported_by_its_name(
    hang: Callable[[Trainer, Left], None], doing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=2, stuck_after_seconds=60))
    left = Left(trainer, monkeypatch)
    hang(trainer, left)
    trainer.train()
    report = (trainer.run.path / "stuck_rank_0.txt").read_text()
    assert left.codes == [EXIT_STUCK] and f"while {doing};" in report and "hanging_work" in report


def hanging_recipe(folder: Path) -> Path:
    """Of a run that hangs ahead of its cache, since one picture is a pipe that nobody writes to."""
    values = tiny_recipes.stage2(folder, are_queries_trained=False) | {"cache": str(folder / "cache")}
    (folder / "pictures" / "green_circle.png").unlink()
    os.mkfifo(folder / "pictures" / "green_circle.png")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def started(code: str, *words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe)


@pytest.mark.slow
def test_a_disk_that_hangs_while_a_run_starts_ends_the_process(tmp_path: Path) -> None:
    recipe = hanging_recipe(tmp_path)
    run = started(IMPATIENT, "train", recipe, "--set", "train.stuck_after_seconds=300")
    _, text = run.communicate(timeout=300)
    assert run.returncode == EXIT_STUCK and "while reading weights and opening the data;" in text
    assert "fingerprint.py" in text
    assert "process 0 is stuck" in (tmp_path / "run" / "stuck_rank_0.txt").read_text()


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    recipe = hanging_recipe(tmp_path)
    run = started("from raekit.cli.app import main; main()", "train", recipe)
    end = time.monotonic() + 300
    while not (tmp_path / "run" / "recipe.yaml").is_file() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(3)  # by now it reads weights, or hangs
    told = time.monotonic()
    run.send_signal(signal.SIGTERM)
    text, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert "stopped by SIGTERM outside the steps of training" in text and "Traceback" not in errors
    assert time.monotonic() - told < 5 * SECONDS
    assert not list((tmp_path / "run" / "checkpoints").iterdir()) and not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "run" / "run.lock").read_text()
