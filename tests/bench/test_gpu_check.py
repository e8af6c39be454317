"""The script that measures a GPU: nothing of it can be run here but its nano sizes, so its commands are read."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from raekit.training.planning.budget import plan_budget
from raekit.training.planning.machines import Machine
from raekit.training.recipe import load_recipe
from raekit.training.stage import Recipe

SCRIPT = Path(__file__).parents[2] / "scripts/gpu_check.py"
GLOBALS = runpy.run_path(str(SCRIPT))
BENCHES = GLOBALS["BENCHES"]


def recipe_of(name: str) -> Recipe:
    words = BENCHES[name]
    changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    return load_recipe(next(word for word in words if word.endswith(".yaml")), changes)


@pytest.mark.parametrize("name", BENCHES)
def test_its_recipes_and_settings_are_known(name: str) -> None:
    recipe = recipe_of(name)
    assert recipe.stage in ("stage2", "unified") and recipe.train.precision == "bf16"


@pytest.mark.parametrize("name", [name for name in BENCHES if "train" in name])
def test_what_it_trains_fits_an_h100_by_estimate(name: str) -> None:
    recipe, machine = recipe_of(name), Machine("h100")
    assert plan_budget(recipe.parts(), recipe.train, machine).bytes_held <= machine.bytes_to_fill


def test_silence_is_no_error() -> None:
    assert GLOBALS["last_line"]("\n") == "nothing was said" and GLOBALS["last_line"]("one\ntwo\n") == "two"


def test_what_is_not_installed_is_named() -> None:
    assert GLOBALS["missing_packages"]() == [] and not GLOBALS["is_installed"]("no-such-package")


def test_failed_tests_are_run_again_and_passed_ones_are_not(tmp_path: Path) -> None:
    check, codes = GLOBALS["check_tests"], iter((1, 0))
    answer = lambda *_: subprocess.CompletedProcess((), next(codes), "", "")  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(check.__globals__, "run", answer)
        check(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["tests_failed.txt"]
        check(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tests.txt"]


@pytest.mark.slow
def test_nano_sizes_run(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("images/s") == 3 and done.stdout.count("conversations/s") == 1, done.stdout
    assert done.stdout.count("answers/s") == 4 and done.stdout.count("tokens/s") == 5, done.stdout
    names = {f"{name}.json" for name in ("nano_train", "nano_sample", "nano_unified_train", "nano_understand")}
    assert {path.name for path in tmp_path.iterdir()} == names
