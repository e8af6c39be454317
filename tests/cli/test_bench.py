"""The verb: rows, a ratio, a file."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

import tiny_generator
import tiny_recipes
from cli.verbs import run
from raekit.cli.bench import stage1, understand


def test_two_settings_are_compared_in_one_call(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipes.stage1(tmp_path)))
    out = tmp_path / "bench.json"
    text = run(stage1, recipe, "--repeats", 1, "--against", "losses.encoder=0", "--out", out)
    assert "images/s" in text and "times the speed of losses.encoder=0" in text
    assert len(json.loads(out.read_text())) == 2


def test_answers_are_measured_one_by_one_and_together(tmp_path: Path) -> None:
    tiny_generator.unified(tmp_path).save(tmp_path / "generator", tmp_path / "autoencoder")
    out, sizes = tmp_path / "bench.json", ("--batch-size", 2, "--words", 3, "--repeats", 1)
    text = run(understand, "--model", tmp_path / "generator", *sizes, "--device", "cpu", "--out", out)
    assert text.count("tokens/s  ") == 4 and text.count("times the tokens/s with keys and values kept") == 2
    assert [report["count"] for report in json.loads(out.read_text())] == [1, 1, 2, 2]
