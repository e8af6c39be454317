"""``raekit train``: from a recipe file to an artefact, stopped and continued; mistakes leave no run behind."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_recipes
from cli.verbs import run
from raekit.cli.train import train
from raekit.errors import UserError
from raekit.training.loop import Trainer


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipes.stage1(tmp_path)))
    return path


def test_a_recipe_becomes_an_artefact_in_the_named_run(recipe: Path, tmp_path: Path) -> None:
    text = run(train, recipe, "--run", tmp_path / "other", "--set", "train.steps=2")
    assert f"wrote {tmp_path / 'other' / 'autoencoder'}" in text
    assert (tmp_path / "other/autoencoder/config.json").is_file()


def test_resuming_goes_on_to_a_later_end(recipe: Path, tmp_path: Path) -> None:
    run(train, recipe, "--set", "train.steps=2")
    run(train, recipe, "--set", "train.steps=4", "--resume")
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step_00000002", "step_00000004"]


def test_a_stopped_run_tells_the_command_that_continues_the_same_experiment(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Trainer.train_step

    def stopped_after_a_step(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return taken(*given)

    changes = ("--set", "train.steps=2", "--set", "optim={lr: 0.0005}")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", stopped_after_a_step)
        text = run(train, recipe, *changes)
    stated, _, command = text.splitlines()[-1].partition("; continue with: ")
    assert stated == "stopped after step 1"
    words = shlex.split(command)
    assert words == ["raekit", "train", str(recipe), *changes, "--run", str(tmp_path / "run"), "--resume"]
    assert "wrote " in run(train, *words[2:])


def test_an_unknown_key_makes_no_run(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train.step: unknown key; did you mean 'steps'"):
        run(train, recipe, "--set", "train.step=2")
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; `raekit list recipes`"):
        run(train, tmp_path / "absent.yaml")
