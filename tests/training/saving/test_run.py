"""A run directory keeps its papers through crashes."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from raekit.config import Config
from raekit.errors import UserError
from raekit.training.saving.run import RunDirectory, environment_stamp, finished_artefact, plot_curve, step_of


class Recipe(Config):
    size: int = 3


def test_the_recipe_and_the_machine_are_written_down(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", Recipe(), is_resumed=False)
    assert (run.path / "recipe.yaml").read_text() == "size: 3\n"
    stamp = json.loads((run.path / "environment.json").read_text())
    assert stamp["packages"]["torch"] and stamp["command"] == environment_stamp()["command"]


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="run .*file/checkpoints.*; name a directory that can be written to"):
        RunDirectory(tmp_path / "file", Recipe(), is_resumed=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_log_rewinds_and_forgives_a_line_cut_short(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Recipe(), is_resumed=False)
    for step in range(1, 5):
        run.log(step, {"loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert [row["step"] for row in run.history()] == [1, 2, 3, 4]
    run.rewind(2)
    assert [row["loss"] for row in run.history()] == [1.0, 0.5]


def with_steps(folder: Path, *steps: int) -> RunDirectory:
    run = RunDirectory(folder, Recipe(), is_resumed=False)
    for step in steps:
        run.checkpoint_path(step).mkdir()
    return run


def kept(run: RunDirectory) -> list[int]:
    return [step_of(path) for path in run.checkpoint_paths()]


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    run = with_steps(tmp_path, 1, 20, 300)
    assert kept(run) == [300, 20, 1]
    run.prune(2)
    assert kept(run) == [300, 20]


def test_pruning_keeps_every_so_manieth_for_good(tmp_path: Path) -> None:
    run = with_steps(tmp_path, 10, 20, 30, 40, 50, 60)
    run.prune(1, keep_every_steps=20)
    assert kept(run) == [60, 40, 20]
    run.prune(2, keep_every_steps=40)
    assert kept(run) == [60, 40]


def test_a_damaged_checkpoint_is_set_aside_and_never_counted(tmp_path: Path) -> None:
    run = with_steps(tmp_path, 1, 2)
    aside = run.set_aside(run.checkpoint_path(2))
    assert aside.is_dir() and aside.name == "damaged_step_00000002" and kept(run) == [1]
    run.prune(1)
    assert aside.is_dir()


def test_what_a_crash_left_half_written_is_swept_up(tmp_path: Path) -> None:
    (with_steps(tmp_path, 1).checkpoints / ".step_00000002.partial").mkdir()
    run = RunDirectory(tmp_path, Recipe(), is_resumed=True)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step_00000001"]


def test_a_copy_under_a_similar_name_is_no_checkpoint(tmp_path: Path) -> None:
    run = with_steps(tmp_path, 4, 99_999_999, 100_000_000)
    for name in ("step_00000004_backup", "step_00000004.bak", "step_4", "step_"):
        (run.checkpoints / name).mkdir()
    assert kept(run) == [100_000_000, 99_999_999, 4]
    run.prune(1)
    assert kept(run) == [100_000_000] and (run.checkpoints / "step_00000004_backup").is_dir()


def test_what_cannot_be_removed_is_told_and_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = with_steps(tmp_path, 1, 2, 3)
    remove = shutil.rmtree

    def held(path: Path, *arguments: Any, **options: Any) -> None:
        """As NFS answers while another machine has a file of step 1 open."""
        if "step_00000001" in str(path):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        remove(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", held)
    run.prune(1)
    run.checkpoint_path(1).mkdir()
    run.prune(1)  # beside what the first time left
    assert kept(run) == [3] and caplog.text.count("could not be removed (Directory not empty)") == 2
    assert kept(RunDirectory(tmp_path, Recipe(), is_resumed=True)) == [3]
    monkeypatch.undo()
    RunDirectory(tmp_path, Recipe(), is_resumed=True)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step_00000003"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    with_steps(tmp_path, 1)
    with pytest.raises(UserError, match="--resume"):
        RunDirectory(tmp_path, Recipe(), is_resumed=False)


def test_a_run_is_finished_when_artefact_and_last_checkpoint_are_there(tmp_path: Path) -> None:
    run = with_steps(tmp_path, 4)
    assert run.finished(4) is None
    (tmp_path / "generator").mkdir()
    run.finish(4, tmp_path / "generator")
    assert run.finished(4) == tmp_path / "generator" == finished_artefact(tmp_path, 4)
    assert finished_artefact(tmp_path, 8) is None, "the recipe asks for more steps"
    run.prune(1)
    run.checkpoint_path(4).rmdir()
    assert finished_artefact(tmp_path, 4) is None


def test_the_lock_is_held_from_the_start_and_let_go_at_the_end(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Recipe(), is_resumed=False)
    assert run.lock.is_held
    with run:
        assert run.lock.is_held
    assert not run.lock.is_held


def test_the_plot_falls_where_the_loss_falls(tmp_path: Path) -> None:
    image = plot_curve([(0, 1.0), (10, 0.0)], size=(200, 200)).convert("RGB")
    blue = [(x, y) for x in range(200) for y in range(200) if image.getpixel((x, y)) == (0x1F, 0x5F, 0xBF)]
    left, right = min(blue), max(blue)
    assert left[1] < right[1]
