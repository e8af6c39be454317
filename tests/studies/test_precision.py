"""Two runs of one recipe, told apart by their arithmetic alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import tiny_recipes
from raekit.config import validate
from raekit.studies.precision import PrecisionCurves, report_of


def test_both_curves_start_alike_and_end_near_each_other(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipes.stage2(tmp_path)))
    settings = {"recipe": str(recipe), "steps": 10, "batch_size": 8}
    study = PrecisionCurves(validate(PrecisionCurves.Config, settings, "study"))
    report = study.run(tmp_path / "out")
    assert report.figures["bad"] == {"fp32": 0, "bf16": 0}
    fp32, bf16 = report.figures["fp32"], report.figures["bf16"]
    assert len(fp32) == 10 and fp32 != bf16
    assert bf16 == pytest.approx(fp32, rel=0.05)
    # Finished runs are read, not run again.
    before = (tmp_path / "out/fp32/metrics.jsonl").stat().st_mtime_ns
    assert study.run(tmp_path / "out").figures == report.figures
    assert (tmp_path / "out/fp32/metrics.jsonl").stat().st_mtime_ns == before


def test_stretches_average_the_log() -> None:
    losses = {
        "fp32": [(step, float(step)) for step in range(1, 21)],
        "bf16": [(step, 1.1 * step) for step in range(1, 21)],
    }
    report = report_of(losses, {"fp32": 0, "bf16": 2}, {}, 20)
    assert report.figures["fp32"] == [1.5 + 2 * number for number in range(10)]
    assert report.notes[0] == "last stretch: bf16 +10.00 % against fp32"
    assert "bf16 2" in report.notes[1]
