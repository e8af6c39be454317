"""The sweep over kinds and scales of guidance, on a generator of a few thousand random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_encoders
import tiny_generator
import tiny_sprites
from raekit.config import validate
from raekit.errors import UserError
from raekit.evaluate import scenes as scenes_module
from raekit.studies.guidance import POINTS_FILE, GuidanceSweep, Point, report_of


def study(**settings: object) -> GuidanceSweep:
    return GuidanceSweep(validate(GuidanceSweep.Config, settings, "study"))


def test_every_point_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes_module, "CALIBRATION_PER_TASK", 1)
    backbone = {**tiny_generator.BACKBONE, "depth": 2, "early_block": 1}
    model = tiny_generator.saved(tmp_path, backbone=backbone)
    encoder = tiny_encoders.save("nano", tmp_path / "features")
    settings = {
        "data": str(tiny_sprites.shard(tmp_path / "shapes.tar")),
        "model": str(model),
        "scales": "1,4",
        "num_per_task": 1,
        "features": f"nano={encoder}",
        "steps": 2,
        "device": "cpu",
    }
    report = study(**settings).run(tmp_path / "out")
    assert [title for title, _ in report.groups] == ["cfg", "interval", "internal", "true pictures, decoded"]
    found = report.figures["points"]
    # Scale 1 is no guidance: the same point whatever the kind, and drawn once.
    assert found["cfg 1"] == found["internal 1"] == found["interval 1"]
    distances = {found[f"{kind} 4"]["distance"] for kind in ("cfg", "interval", "internal")}
    assert len(distances) == 3
    (kept,) = json.loads((tmp_path / "out" / POINTS_FILE).read_text()).values()
    assert sorted(kept) == ["cfg 4", "internal 4", "interval 4", "none"]

    def fails(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr("raekit.studies.guidance.draw_prompts", fails)
    assert study(**settings).run(tmp_path / "out").figures == report.figures
    assert all(path.is_file() for path in report.save(tmp_path / "out"))


def test_the_best_points_are_named() -> None:
    points = {("cfg", 1): Point(0.2, 0.1, 9.0), ("cfg", 3): Point(0.6, 0.1, 5.0), ("internal", 1): Point(0.2, 0.1, 9.0)}
    points["internal", 3] = Point(0.4, 0.1, 4.0)
    report = report_of(points, Point(0.9, 0.05, 1.0), {}, "fd_nano", [])
    assert "most right: cfg at scale 3; closest to true pictures: internal at scale 3" in report.notes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": "cfg,inner"}, "kinds: unknown kind 'inner'"),
        ({"scales": "0"}, "scales: '0' are no whole numbers from 1"),
        ({"low": 0.9}, "low: 0.9 is above high"),
    ],
)
def test_bad_settings_are_one_sentence(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(**settings)


def test_a_kind_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    model = tiny_generator.saved(tmp_path)
    with pytest.raises(UserError, match="early"):
        study(model=str(model), kinds="internal", device="cpu").run(tmp_path / "out")
