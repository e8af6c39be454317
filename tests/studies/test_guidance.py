"""The sweep over kinds and scales of guidance, on a generator of a few thousand random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_encoders
import tiny_generator
import tiny_sprites
from raekit.config import validate
from raekit.errors import UserError
from raekit.evaluate import scenes as scenes_module
from raekit.evaluate.scenes import draw_prompts
from raekit.studies import guidance as module
from raekit.studies.guidance import POINTS_FILE, GuidanceSweep


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
    assert report.title == "Guidance, judged by the checker attributes"
    assert [title for title, _ in report.groups] == ["cfg", "interval", "internal", "true pictures"]
    # Only what the checker of numbers and colours can judge is drawn.
    assert report.columns[:-1] == ["count", "colour", "two-colour", "all tasks"]
    found = report.figures["points"]
    # Scale 1 is no guidance: the same point whatever the kind, and drawn once.
    assert found["cfg 1"] == found["internal 1"] == found["interval 1"]
    distances = {found[f"{kind} 4"]["distance"] for kind in ("cfg", "interval", "internal")}
    assert len(distances) == 3
    assert len(json.loads((tmp_path / "out" / POINTS_FILE).read_text())) == 4

    def fails(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "draw_prompts", fails)
    assert study(**settings).run(tmp_path / "out").figures == report.figures
    # Another checker judges the same pictures.
    tasks = "counting,colors,color_attr"
    again = study(**settings, checker="probe", encoder=f"nano={encoder}", tasks=tasks).run(tmp_path / "out")
    assert again.figures != report.figures
    assert again.figures["points"]["cfg 4"]["distance"] == found["cfg 4"]["distance"]
    assert all(path.is_file() for path in report.save(tmp_path / "out"))


def test_what_is_measured_is_on_disk_when_the_study_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes_module, "CALIBRATION_PER_TASK", 1)
    settings = {
        "data": str(tiny_sprites.shard(tmp_path / "shapes.tar")),
        "model": str(tiny_generator.saved(tmp_path)),
        "checker": "templates",
        "tasks": "single_object",
        "kinds": "cfg",
        "scales": "1,2",
        "num_per_task": 2,
        "features": f"nano={tiny_encoders.save('nano', tmp_path / 'features')}",
        "steps": 1,
        "device": "cpu",
    }
    drawn = []

    def stopped(*arguments: Any) -> Any:
        drawn.append(arguments)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw_prompts(*arguments)

    monkeypatch.setattr(module, "draw_prompts", stopped)
    with pytest.raises(KeyboardInterrupt):
        study(**settings).run(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(written["figures"]["points"]) == ["cfg 1"]
    assert written["notes"][0] == "not finished: 1 of 2 points are measured"
    finished = study(**settings).run(tmp_path / "out")
    assert len(drawn) == 3 and finished.figures["points"]["cfg 1"] == written["figures"]["points"]["cfg 1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": "cfg,inner"}, "kinds: unknown kind 'inner'"),
        ({"scales": "0"}, "scales: '0' are no whole numbers from 1"),
        ({"tasks": "countng"}, "tasks: unknown task 'countng'; did you mean 'counting'"),
        ({"checker": "colour"}, "checker"),
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
