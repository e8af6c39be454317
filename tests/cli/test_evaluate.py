"""``raekit evaluate``: the figures on the screen are those in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny_data
import tiny_encoders
import tiny_generator
from raekit.cli.evaluate import evaluate
from raekit.errors import UserError


def run(*words: object) -> str:
    done = CliRunner().invoke(evaluate, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of a generator, its latent space, another decoder, pictures and a network for distances."""
    directory = tmp_path_factory.mktemp("models")
    tiny_generator.saved(directory)
    other = tiny_generator.latent_space(directory / "other", seed=4)
    other.save(directory / "other")
    tiny_encoders.save("nano", directory / "features")
    tiny_data.pictures(directory / "shapes")
    return directory


def test_reconstructions_of_two_models(models: Path, tmp_path: Path) -> None:
    names = f"{models / 'autoencoder'},{models / 'other'}"
    words = ["--model", names, "--num", 5, "--features", f"nano={models / 'features'}", "--out", tmp_path / "out"]
    text = run("reconstruction", models / "shapes", *words, "--pixels", "truncated", "--reader", "none")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["autoencoder", "other"]
    for model in report["models"]:
        psnr = model["overall"]["means"]["psnr"]
        assert f"{psnr['value']:.2f} ± {psnr['standard_error']:.2f}" in text
        assert model["overall"]["num_images"] == 5
    assert report["settings"]["pixels"] == "truncated" and "truncated to 8 bits" in text
    assert (tmp_path / "out" / "sheet_2.png").is_file() and str(tmp_path / "out" / "report.html") in text


def test_decoders_on_generated_latents(models: Path, tmp_path: Path) -> None:
    words = ["--model", models / "generator", "--num", 3, "--steps", 2, "--out", tmp_path / "out", "--reader", "none"]
    words += ["--decoder", f"{models / 'autoencoder'},{models / 'other'}", "--features", f"nano={models / 'features'}"]
    text = run("generation", models / "shapes", *words)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["autoencoder", "other"]
    assert f"{report['models'][1]['overall']['sharpness']:.3f}" in text
    assert report["settings"]["sampling"]["steps"] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--num", 1], "too few"),
        (["--features", "dinov22"], "unknown network 'dinov22'; did you mean 'dinov2'"),
        (["--features", "inception=none.safetensors"], "none.safetensors"),
        (["--lpips", "one"], "lpips: 'one' names 1 files"),
        (["--lpips", "no_vgg.safetensors,no_heads.safetensors"], "no_vgg.safetensors"),
        (["--pixels", "round"], "pixels: unknown rule 'round'; did you mean 'rounded'"),
        (["--reader", "eyes"], "reader: unknown name 'eyes'"),
        (["--model", "no/such/model"], "no/such/model"),
        (["--batch-size", "0"], "batch_size"),
    ],
)
def test_what_is_wrong_is_named(models: Path, words: list[object], sentence: str) -> None:
    features = [] if "--features" in words else ["--features", f"nano={models / 'features'}"]
    model = [] if "--model" in words else ["--model", models / "autoencoder"]
    with pytest.raises(UserError) as error:
        run("reconstruction", models / "shapes", "--reader", "none", *features, *model, *words)
    assert sentence in str(error.value)
