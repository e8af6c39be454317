"""The whole line on drawn pictures: encoder, decoder, generator, a picture from a prompt, all by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

import tiny_recipes
from cli.verbs import run
from raekit.cli.generate import generate
from raekit.cli.reconstruct import reconstruct
from raekit.cli.train import train


def write(folder: Path, name: str, recipe: dict[str, Any]) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**recipe, "run": str(folder / name)}))
    return path


def test_from_pictures_to_a_picture(tmp_path: Path) -> None:
    encoder = tiny_recipes.encoder(tmp_path)
    run(train, write(tmp_path, "encoder", encoder))

    decoder = tiny_recipes.stage1(tmp_path)
    decoder |= {"data": encoder["data"], "held_out": encoder["held_out"]}
    decoder["init_decoder"] = str(tmp_path / "encoder/detail_decoder.safetensors")
    decoder["autoencoder"]["encoder"]["path"] = str(tmp_path / "encoder/encoder")
    run(train, write(tmp_path, "decoder", decoder))

    generator = tiny_recipes.stage2(tmp_path)
    generator |= {"data": encoder["data"], "held_out": encoder["held_out"]}
    generator["latent_space"] = str(tmp_path / "decoder/autoencoder")
    run(train, write(tmp_path, "generator", generator))

    model, out = tmp_path / "generator/generator", tmp_path / "out"
    files = run(generate, "a red circle", "--model", model, "--num", 2, "--out", out, "--grid").split()
    assert files[-1] == str(out / "grid.png")
    with Image.open(files[0]) as first, Image.open(files[1]) as second:
        assert first.size == (16, 16)
        assert first.tobytes() != second.tobytes()

    picture = tmp_path / "pictures/red_circle.png"
    text = run(reconstruct, picture, "--model", tmp_path / "decoder", "--out", tmp_path / "redrawn", "--sheet")
    assert "dB" in text
    assert sorted(path.name for path in (tmp_path / "redrawn").glob("*.png")) == ["red_circle.png", "sheet.png"]
