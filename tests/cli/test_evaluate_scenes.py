"""``raekit evaluate scenes``: the table on the screen is the one in the report, and is never called what it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny_encoders
import tiny_generator
import tiny_sprites
from raekit.cli.evaluate import evaluate
from raekit.errors import UserError
from raekit.evaluate import scenes as module


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of a generator, an encoder, and a shard of shapes."""
    directory = tmp_path_factory.mktemp("models")
    tiny_generator.saved(directory)
    tiny_encoders.save("nano", directory / "features")
    tiny_sprites.shard(directory / "shapes.tar")
    return directory


def run(models: Path, *words: object) -> str:
    arguments = ["scenes", models / "shapes.tar", "--model", models / "generator", "--device", "cpu", *words]
    done = CliRunner().invoke(evaluate, [str(word) for word in arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_a_table_and_a_report(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALIBRATION_PER_TASK", 1)
    monkeypatch.setattr(module, "PROBE_ROUNDS", 1)
    words = ["--num-per-task", 1, "--steps", 1, "--guidance", 1, "--seed", 4, "--out", tmp_path / "out"]
    text = run(models, *words, "--encoder", f"nano={models / 'features'}")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for name in ("templates", "probe"):
        score = report["scores"][name]["all tasks"]["generated"]
        assert f"{score['value']:.2f} ± {score['standard_error']:.2f}" in text
    assert len(report["pictures"]) == 6 and report["settings"]["sampling"]["guidance_scale"] == 1
    assert str(tmp_path / "out" / "report.html") in text and (tmp_path / "out" / "sheet_3.png").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    for shown in (text, page, json.dumps(report)):
        assert shown.count("GenEval") == shown.count("GenEval-style") > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--num-per-task", 0], "num_per_task: 0"),
        (["--steps", 0], "steps"),
        (["--encoder", "eyes"], "encoder: unknown name 'eyes'"),
        (["--prompts", "none.jsonl", "--encoder", "none"], "none.jsonl"),
        (["--seed", -3, "--encoder", "none"], "seed: -3"),
    ],
)
def test_what_is_wrong_is_named_before_the_work(models: Path, words: list[object], sentence: str) -> None:
    encoder = [] if "--encoder" in words else ["--encoder", f"nano={models / 'features'}"]
    with pytest.raises(UserError) as error:
        run(models, *words, *encoder)
    assert sentence in str(error.value)
