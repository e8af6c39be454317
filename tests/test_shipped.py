"""Models and recipes of the package go by the same names everywhere; what lies here comes first."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from raekit import generator_files, shipped
from raekit.errors import UserError
from raekit.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]


def test_what_is_not_here_is_looked_for_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "recipes/nano/generator.yaml"
    assert shipped.find(name) == shipped.PACKAGE / name
    recipe = load_recipe(name)
    assert recipe.latent_space == shipped.PACKAGE / "models/nano/autoencoder"
    (tmp_path / "recipes/nano").mkdir(parents=True)
    (tmp_path / name).write_text("stage: own")
    assert shipped.find(name) == Path(name)


@pytest.mark.parametrize("name", ["data", "files.py", "recipes/none.yaml", "/recipes/nano", ""])
def test_nothing_else_of_the_package_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.find(name) == Path(name)


@pytest.mark.slow
def test_a_wheel_holds_models_and_recipes(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves files behind, which the next one would take up
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder in shipped.FOLDERS:
        files = (path for path in (shipped.PACKAGE / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
        assert {f"raekit/{path.relative_to(shipped.PACKAGE)}" for path in files} <= held


def test_what_nobody_named_is_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the same name where one happens to be is not loaded in its place."""
    (tmp_path / "models/nano/generator").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert generator_files.read().directory == shipped.PACKAGE / "models/nano/generator"
    with pytest.raises(UserError, match=r"model 'models/nano/generator' holds no config.json"):
        generator_files.read("models/nano/generator")
