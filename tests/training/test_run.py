"""A run directory keeps its papers through crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raekit.config import Config
from raekit.errors import UserError
from raekit.training.run import RunDirectory, environment_stamp, plot_curve


class Recipe(Config):
    size: int = 3


def test_the_recipe_and_the_machine_are_written_down(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", Recipe(), is_resumed=False)
    assert (run.path / "recipe.yaml").read_text() == "size: 3\n"
    stamp = json.loads((run.path / "environment.json").read_text())
    assert stamp["packages"]["torch"] and stamp["command"] == environment_stamp()["command"]


def test_the_log_rewinds_and_forgives_a_line_cut_short(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Recipe(), is_resumed=False)
    for step in range(1, 5):
        run.log(step, {"loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert [row["step"] for row in run.history()] == [1, 2, 3, 4]
    run.rewind(2)
    assert [row["loss"] for row in run.history()] == [1.0, 0.5]


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Recipe(), is_resumed=False)
    for step in (1, 20, 300):
        run.checkpoint_path(step).mkdir()
        (run.checkpoint_path(step) / "manifest.json").write_text("{}")
    run.prune(2)
    assert run.latest_checkpoint() == run.checkpoint_path(300)
    assert not run.checkpoint_path(1).exists() and run.checkpoint_path(20).exists()


def test_a_directory_without_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Recipe(), is_resumed=False)
    run.checkpoint_path(7).mkdir()
    assert run.latest_checkpoint() is None


def test_another_run_is_refused(tmp_path: Path) -> None:
    RunDirectory(tmp_path, Recipe(), is_resumed=False).checkpoint_path(1).mkdir()
    with pytest.raises(UserError, match="--resume"):
        RunDirectory(tmp_path, Recipe(), is_resumed=False)


def test_the_plot_falls_where_the_loss_falls(tmp_path: Path) -> None:
    image = plot_curve([(0, 1.0), (10, 0.0)], size=(200, 200)).convert("RGB")
    blue = [(x, y) for x in range(200) for y in range(200) if image.getpixel((x, y)) == (0x1F, 0x5F, 0xBF)]
    left, right = min(blue), max(blue)
    assert left[1] < right[1]
