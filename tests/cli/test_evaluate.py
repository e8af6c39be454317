"""``raekit evaluate``: the figure on the screen is the one in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_data
import tiny_generator
from cli.verbs import run
from raekit.cli.evaluate import evaluate
from raekit.errors import UserError


def test_the_report_says_what_was_measured(tmp_path: Path) -> None:
    tiny_generator.latent_space(tmp_path / "autoencoder")
    pictures, out = tiny_data.pictures(tmp_path / "pictures"), tmp_path / "report.json"
    text = run(evaluate, pictures, "--model", tmp_path / "autoencoder", "--out", out, "--num", 5)
    report = json.loads(out.read_text())
    assert f"psnr {report['psnr']:.2f} dB" in text
    assert report["num_images"] == 5 and report["num_skipped"] == 0


def test_generations_are_not_measured_yet_and_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not built yet"):
        run(evaluate, tmp_path, "--what", "generation")
