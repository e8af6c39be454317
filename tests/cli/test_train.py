"""``raekit train``: from a recipe file to an artefact, stopped and continued; mistakes leave no run behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import tiny_recipes
from cli.verbs import run
from raekit.cli.train import train
from raekit.errors import UserError


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


def test_an_unknown_key_makes_no_run(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train.step: unknown key; did you mean 'steps'"):
        run(train, recipe, "--set", "train.step=2")
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; `raekit list recipes`"):
        run(train, tmp_path / "absent.yaml")
