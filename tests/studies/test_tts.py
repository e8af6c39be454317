"""The study from prompts to table, with a tiny model; interrupted and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_generator
import tiny_sprites
from raekit.errors import UserError
from raekit.evaluate import scenes
from raekit.generate import ImageGenerator
from raekit.studies import STUDIES
from raekit.studies.pool import VERDICTS_FILE
from raekit.studies.tts import BestOfN
from raekit.studies.tts_report import RANDOM


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator.saved(tmp_path_factory.mktemp("model"), sampling={"steps": 2})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sprites.shard(tmp_path_factory.mktemp("shapes") / "shapes.tar")


CHECKERS = ("templates", "attributes")


def study(model: Path, shapes: Path, **settings: object) -> BestOfN:
    few = {"candidates": "1,3", "keep": "1", "tasks": "single_object,counting", "num_per_task": 1, "encoder": "none"}
    given = {"data": shapes, "model": str(model), "device": "cpu", **few, **settings}
    return STUDIES["tts"](BestOfN.Config.model_validate(given))


def test_a_study_goes_on_where_it_was_left(
    model: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "CALIBRATION_PER_TASK", 1)
    told: list[str] = []
    first = study(model, shapes).run(tmp_path, lambda what, done, total: told.append(what))
    assert told == [
        "loading",
        "drawing",
        "drawing",
        *(f"checking ({one})" for one in CHECKERS),
        "verifying (siglip_score)",
    ]
    verdicts = json.loads((tmp_path / VERDICTS_FILE).read_text())
    assert [name.rpartition(" ")[0] for name in verdicts] == [
        *(f"checker {one}" for one in CHECKERS),
        "siglip_score of latents",
        "siglip_score of estimates",
    ]
    assert all(len(one["scores"]) == 3 for who in verdicts.values() for one in who.values())

    monkeypatch.setattr("raekit.trajectories.Trajectories.finish", lambda *_: pytest.fail("drawn again"))
    monkeypatch.setattr("raekit.verifiers.judge.Judge.__call__", lambda *_: pytest.fail("judged again"))
    again = study(model, shapes).run(tmp_path)
    assert again.figures["right"] == first.figures["right"]
    assert [title for title, _ in again.groups][:2] == [title for title, _ in first.groups][:2]
    rows = dict(first.groups[0][1])
    assert first.columns == ["N = 1", "N = 3"] and len(rows[RANDOM]) == 2
    assert first.settings["verifier siglip_score"]["sees"] == "images"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"candidates": "1,2000"}, "candidates: 2000 of a prompt, at most 1000"),
        ({"keep": "5"}, "keep: 5 of at most 3 candidates"),
        ({"tasks": "countng"}, "tasks: unknown task 'countng'; did you mean 'counting'"),
        ({"verifiers": "clip_score=a, clip_score=b"}, "verifiers: 'clip_score' is named 2 times"),
    ],
)
def test_settings_that_leave_nothing_to_study(shapes: Path, settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        study(Path("nowhere"), shapes, **settings)


def test_a_verifier_of_latents_needs_a_model_that_can_be_asked(
    model: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageGenerator, "trajectories", lambda *_: pytest.fail("drawn for nothing"))
    with pytest.raises(UserError, match="verifier answer_logits: .*load a unified model"):
        study(model, shapes, verifiers="siglip_score,answer_logits").run(tmp_path)
