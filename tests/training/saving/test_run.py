"""A run directory keeps its papers through crashes."""

from __future__ import annotations

import errno
import json
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


def test_a_log_that_cannot_be_written_costs_its_lines_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, log = RunDirectory(tmp_path, Recipe(), is_resumed=False), tmp_path / "metrics.jsonl"
    run.log(1, {"loss": 1.0})
    kept = log.rename(tmp_path / "kept")
    log.symlink_to("/dev/full")
    for step in (2, 3):
        run.log(step, {"loss": 1.0})
    assert caplog.text.count("No space left on device") == 1
    log.unlink()
    kept.write_text(kept.read_text() + '{"step": 3, "lo')  # as much as went onto the disk
    kept.rename(log)
    run.log(4, {"loss": 1.0})
    assert [row["step"] for row in run.history()] == [1, 4]


def test_a_run_directory_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(UserError, match=r"run directory .*: run.lock: Is a directory; .*can be written to"):
        RunDirectory(tmp_path, Recipe(), is_resumed=False)


def test_a_start_before_the_first_checkpoint_is_a_fresh_one(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path, Recipe(), is_resumed=False)
    first.log(1, {"loss": 1.0})
    first.note_going_back(7, 4)
    again = RunDirectory(tmp_path, Recipe(size=4), is_resumed=False)
    assert again.history() == [] and again.went_back(0) is None
    assert (tmp_path / "recipe.yaml").read_text() == "size: 4\n"


def test_a_resumed_run_writes_its_papers_when_it_is_told_to(tmp_path: Path) -> None:
    with_steps(tmp_path, 1)
    run = RunDirectory(tmp_path, Recipe(size=4), is_resumed=True)
    assert (tmp_path / "recipe.yaml").read_text() == "size: 3\n"
    run.write_papers()
    assert (tmp_path / "recipe.yaml").read_text() == "size: 4\n"


def test_going_back_is_remembered_until_a_later_checkpoint_knows_of_it(tmp_path: Path) -> None:
    run = with_steps(tmp_path, 4)
    assert run.went_back(4) is None
    run.note_going_back(7, 4)
    assert (run.went_back(2), run.went_back(4), run.went_back(5)) == (7, 7, None)


def test_a_finished_run_without_its_checkpoints_is_not_trained_over(tmp_path: Path) -> None:
    run = with_steps(tmp_path)
    (tmp_path / "generator").mkdir()
    run.finish(4, tmp_path / "generator")
    with pytest.raises(UserError, match=r"a finished run without its checkpoints, and 'generator' would be replaced"):
        RunDirectory(tmp_path, Recipe(), is_resumed=False)
    (tmp_path / "finished.json").unlink()
    RunDirectory(tmp_path, Recipe(), is_resumed=False)


def test_what_killed_exports_left_is_swept_up(tmp_path: Path) -> None:
    left = [tmp_path / ".autoencoder.abc_1234", tmp_path / "ema_0.5" / ".generator.0123abcd"]
    others = [tmp_path / ".git", tmp_path / ".autoencoder.mine", tmp_path / "samples" / "step_00000001.png"]
    for path in (*left, *others):
        path.mkdir(parents=True)
    sheet = tmp_path / "samples" / ".step_00000002.png.00ff.tmp"
    sheet.touch()
    RunDirectory(tmp_path, Recipe(), is_resumed=True)
    assert [path.exists() for path in (*left, sheet, *others)] == [False] * 3 + [True] * 3


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
