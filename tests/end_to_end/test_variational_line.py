"""The same line in a VAE's latent space: only the latent space's own settings are others, and every verb takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import tiny_autoencoders
import tiny_recipes
from cli.verbs import run
from raekit.cli.evaluate import reconstruction
from raekit.cli.explain import explain
from raekit.cli.generate import generate
from raekit.cli.reconstruct import reconstruct
from raekit.cli.train import train
from raekit.training.draws import Draws
from raekit.training.stage2 import Stage2


def test_from_pictures_to_a_picture(tmp_path: Path) -> None:
    first = tiny_recipes.stage1(tmp_path) | {"run": str(tmp_path / "vae"), "losses": {"kl": 1e-3}}
    first["autoencoder"] = {"name": "kl_vae", **tiny_autoencoders.kl_vae(tmp_path)}
    second = tiny_recipes.stage2(tmp_path, are_queries_trained=False) | {"run": str(tmp_path / "generator")}
    second |= {"latent_space": str(tmp_path / "vae/autoencoder"), "cache": str(tmp_path / "cache")}
    recipes = {"vae": first, "generator": second}
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        run(train, tmp_path / f"{name}.yaml")
    assert "kl" in (tmp_path / "vae/metrics.jsonl").read_text()

    told = run(explain, tmp_path / "vae.yaml") + run(explain, tmp_path / "generator.yaml")
    assert "kl_vae" in told and "12 x 2 x 2 = 48 numbers" in told

    files = run(
        generate, "a red circle", "--model", tmp_path / "generator/generator", "--out", tmp_path / "out"
    ).split()
    with Image.open(files[-1]) as drawn:
        assert drawn.size == (16, 16)

    picture = tmp_path / "pictures/red_circle.png"
    assert "dB" in run(reconstruct, picture, "--model", tmp_path / "vae/autoencoder", "--out", tmp_path / "redrawn")
    assert "PSNR" in run(reconstruction, tmp_path / "pictures", "--model", tmp_path / "vae/autoencoder")


def test_generators_may_be_trained_on_draws_of_the_posterior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipes.stage2(tmp_path) | {"latent_space": str(tmp_path / "vae")}
    space = tiny_autoencoders.build("kl_vae", tmp_path, posterior="sample")
    space.save(tmp_path / "vae")
    stage = Stage2(tiny_recipes.resolve(recipe), torch.device("cpu"))
    monkeypatch.setattr(type(space), "encode", lambda *_: pytest.fail("encoded without its noise"))
    assert stage.loss(next(stage.batches(0, 4)), Draws(0, range(4)))["loss"].isfinite()
