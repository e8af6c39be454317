"""The verb: rows, a ratio, a file."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

import tiny_recipes
from cli.verbs import run
from raekit.cli.bench import stage1


def test_two_settings_are_compared_in_one_call(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipes.stage1(tmp_path)))
    out = tmp_path / "bench.json"
    text = run(stage1, recipe, "--repeats", 1, "--against", "losses.encoder=0", "--out", out)
    assert "images/s" in text and "times the speed of losses.encoder=0" in text
    assert len(json.loads(out.read_text())) == 2
