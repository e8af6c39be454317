"""The script that measures a GPU: nothing of it can be run here but its nano sizes, so its commands are read."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from raekit.training.recipe import load_recipe

SCRIPT = Path(__file__).parents[2] / "scripts/gpu_check.py"
BENCHES = runpy.run_path(str(SCRIPT))["BENCHES"]


@pytest.mark.parametrize("name", BENCHES)
def test_its_recipes_and_settings_are_known(name: str) -> None:
    words = BENCHES[name]
    changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    recipe = load_recipe(next(word for word in words if word.endswith(".yaml")), changes)
    assert recipe.stage == "stage2" and recipe.train.precision == "bf16"


@pytest.mark.slow
def test_nano_sizes_run(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("images/s") == 3, done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"nano_train.json", "nano_sample.json"}
