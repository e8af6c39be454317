"""``raekit evaluate understanding`` and ``evaluate benchmark``: what the library found, and files without scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import tiny_generator
import tiny_sprites
from raekit.cli.evaluate import evaluate
from raekit.errors import UserError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unified model in ``generator``, a shard of shapes, and a picture."""
    directory = tmp_path_factory.mktemp("understanding")
    generator = tiny_generator.unified(directory, sampling={"steps": 1})
    generator.save(directory / "generator", directory / "autoencoder")
    tiny_sprites.shard(directory / "shapes.tar")
    Image.new("RGB", (8, 8)).save(directory / "a.png")
    return directory


def run(place: Path, *words: object) -> tuple[str, str]:
    common = ["--model", place / "generator", "--device", "cpu", "--max-tokens", 2]
    done = CliRunner().invoke(evaluate, [str(word) for word in [*words, *common]])
    if done.exception is not None:
        raise done.exception
    return done.stdout, done.stderr


def test_a_table_and_its_files(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text, _ = run(place, "understanding", place / "shapes.tar", "--num", 2, "--drawn", "--seed", 3, "--out", out)
    report = json.loads((out / "report.json").read_text())
    assert list(report["kinds"]) == ["naming", "presence", "match", "all questions"]
    assert report["settings"]["seed"] == 3 and "drawn latents" in report["kinds"]["naming"]
    for shown in (
        "chance",
        "commonest",
        "true pictures",
        "drawn latents",
        str(out / "answers.jsonl"),
        *report["notes"],
    ):
        assert shown in text
    mean = report["kinds"]["match"]["true pictures"]["exact"]
    assert f"{mean['value']:.3f} ± {mean['standard_error']:.3f}" in text


def test_another_generator_may_draw_what_is_asked_about(place: Path, tmp_path: Path) -> None:
    other = tiny_generator.text_to_image(place)
    other.save(tmp_path / "other", place / "autoencoder")
    out = tmp_path / "out"
    run(place, "understanding", place / "shapes.tar", "--num", 1, "--drawn-by", tmp_path / "other", "--out", out)
    assert json.loads((out / "report.json").read_text())["settings"]["drawn by"] == other.checksum


def test_predictions_are_files_and_no_scores(place: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question_id": 7, "question": "what?", "image": str(place / "a.png")}))
    text, told = run(place, "benchmark", "textvqa", rows, "--out", tmp_path / "out")
    assert text == f"{tmp_path / 'out' / 'textvqa.json'}\n"
    assert json.loads((tmp_path / "out" / "textvqa.json").read_text())[0]["question_id"] == 7
    assert "these are answers, not scores" in told


def test_mistakes_are_one_sentence(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="benchmark: unknown name 'vqa'"):
        run(place, "benchmark", "vqa", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    with pytest.raises(UserError, match="rows '.*': cannot be read"):
        run(place, "benchmark", "mme", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    with pytest.raises(UserError, match="data 'none': no such recipe, file or folder"):
        run(place, "understanding", "none", "--model", tmp_path / "absent")
    with pytest.raises(UserError, match="data 'none': no such recipe, file or folder"):
        run(place, "understanding", "none")
    with pytest.raises(UserError, match="num: 0 conversations of each source"):
        run(place, "understanding", place / "shapes.tar", "--num", 0)
