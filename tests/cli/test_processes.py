"""Verbs of several processes: the very files that one process writes, written once; mistakes told once by all."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

import raekit
import tiny_data
import tiny_encoders
import tiny_generator
import tiny_sprites
import two_ranks
from raekit import distributed
from raekit.cli.app import FOR_ONE_PROCESS, main
from raekit.evaluate import scenes
from raekit.generate import ImageGenerator

SPEEDS = ("encode_images_per_second", "decode_images_per_second")
"""What two processes may report otherwise."""
SCORES = {"best_of": 5, "keep": 2, "prune_at": 0.5, "verifier": "answer_logits"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unified model, another decoder, a network for distances, pictures with a bad one among them, and shapes."""
    directory = tmp_path_factory.mktemp("models")
    generator = tiny_generator.unified(directory, sampling={"steps": 2})
    generator.save(directory / "generator", directory / "autoencoder")
    tiny_generator.latent_space(directory / "other", seed=4).save(directory / "other")
    tiny_encoders.save("nano", directory / "features")
    tiny_data.pictures(directory / "shapes")
    (directory / "shapes" / "green_circle.png").write_bytes(b"no picture")
    tiny_sprites.shard(directory / "shapes.tar")
    return directory


def commands(place: Path) -> dict[str, list[object]]:
    model, features = ["--model", place / "generator", "--device", "cpu"], ["--features", f"nano={place / 'features'}"]
    measuring = [*features, "--reader", "none", "--batch-size", 3]
    decoders = f"{place / 'autoencoder'},{place / 'other'}"
    best = [word for name, value in SCORES.items() for word in (f"--{name.replace('_', '-')}", value)]
    drawing = ["--output", "both", "--grid", "--sampler", "sde", "--steps", 3]
    shapes = place / "shapes.tar"
    return {
        "generation": ["evaluate", "generation", place / "shapes", *model, "--decoder", decoders, *measuring],
        "scenes": ["evaluate", "scenes", shapes, *model, "--num-per-task", 3, "--encoder", "none"],
        "pictures": ["generate", "sun", "moon", "a star", *model, "--num", 7, *drawing],
        "best": ["generate", "sun", "moon", *model, *best, *drawing],
        "reconstruction": ["evaluate", "reconstruction", place / "shapes", "--model", decoders, *measuring],
        "understanding": ["evaluate", "understanding", shapes, *model, "--num", 3, "--drawn", "--max-tokens", 3,
                          "--batch-size", 4],
    }  # fmt: skip


def call(words: list[object]) -> dict[str, Any]:
    """``raekit`` in this process: its exit code, and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv, code = ["raekit", *map(str, words)], None
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = leaving.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def say(folder: Path, said: dict[str, Any]) -> None:
    (folder / f"rank_{os.environ['RANK']}.json").write_text(json.dumps(said))


def all_verbs(place: Path, folder: Path) -> None:
    os.chdir(folder)
    scenes.CALIBRATION_PER_TASK = 1
    if os.environ["WORLD_SIZE"] != "1":
        distributed.join(torch.device("cpu"))
    say(folder, {name: call([*words, "--out", name]) for name, words in commands(place).items()})


def contents(folder: Path) -> dict[str, Any]:
    """Every file but what was said, by its place; reports without speeds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("rank_"))
    found: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    for name in [name for name in found if name.endswith(".json")]:
        report = json.loads(found[name])
        report.pop("seconds", None)
        for model in report.get("models", ()):
            for speed in SPEEDS:
                model["cost"].pop(speed)
        found[name] = report
    return {name: value for name, value in found.items() if not name.endswith(".html")}


def test_two_processes_find_the_very_bits_that_one_finds(place: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    two_ranks.run(all_verbs, place, one, world=1)
    two_ranks.run(all_verbs, place, two)
    alone, first, second = (json.loads(path.read_text()) for path in (one / "rank_0.json", *sorted(two.glob("rank_*"))))
    for name in alone:
        assert (alone[name]["code"], first[name]["code"], second[name]["code"]) == (0, 0, 0), (name, alone, first)
        assert first[name]["out"] and second[name] == {"code": 0, "out": "", "err": ""}
        if "images/s" not in alone[name]["out"]:
            assert first[name]["out"] == alone[name]["out"]
    expected, found = contents(one), contents(two)
    assert sorted(found) == sorted(expected) and len(found) > 60
    for name, content in expected.items():
        assert found[name] == content, name
    generation = found["generation/report.json"]
    assert generation["settings"]["repeated pictures"] == generation["settings"]["failed readings"] == 1
    assert generation["models"][0]["overall"]["num_images"] == 7


def go_wrong(place: Path, folder: Path) -> None:
    os.chdir(folder)
    said = {verb: call([verb, "x"]) for verb in FOR_ONE_PROCESS}
    said["benchmark"] = call(["evaluate", "benchmark", "mme", "rows.jsonl", "--out", "x"])
    distributed.join(torch.device("cpu"))
    drawing = ["generate", "sun", "moon", "--model", place / "generator", "--device", "cpu", "--num", 17, "--out"]
    rank = distributed.rank()
    said["writing"] = call([*drawing, place / "shapes.tar"])
    said["words"] = call([*drawing, "out", "--seed", rank])
    draw = ImageGenerator.trajectories
    if rank == 1:
        ImageGenerator.trajectories = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            call([*drawing, "out"])
        ImageGenerator.trajectories = draw  # type: ignore[method-assign]
    else:
        said["bug"] = call([*drawing, "out"])
    said["after"] = call([*drawing, "out"])
    say(folder, said)


def test_mistakes_are_told_once_and_end_all(place: Path, tmp_path: Path) -> None:
    two_ranks.run(go_wrong, place, tmp_path)
    first, second = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    for verb in (*FOR_ONE_PROCESS, "benchmark"):
        assert first[verb]["code"] == 2 and "started as 2 processes, which would all do the same" in first[verb]["err"]
    assert not (tmp_path / "x").exists()
    sentences = {
        "writing": "name a directory that can be written to",
        "words": "were started with different words",
        "bug": "process 1 failed with ZeroDivisionError",
    }
    for name, sentence in sentences.items():
        assert first[name]["code"] == 2 and first[name]["err"].count("error: ") == 1 and sentence in first[name]["err"]
        assert name == "bug" or second[name] == {"code": 2, "out": "", "err": ""}
    assert first["after"]["code"] == second["after"]["code"] == 0
    assert len(first["after"]["out"].split()) == len(list((tmp_path / "out").glob("*.png"))) == 34


@pytest.mark.slow
def test_the_documented_command(place: Path, tmp_path: Path) -> None:
    """The real torchrun, which takes a word that stands before ``--`` for its own."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    words = [
        "raekit",
        "generate",
        "sun",
        "--model",
        place / "generator",
        "--device",
        "cpu",
        "--num",
        17,
        "--out",
        tmp_path,
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(raekit.__file__).parents[1])}
    done = subprocess.run([*launcher, *map(str, words)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / f"sun_seed{seed}.png") for seed in range(17)]
