"""A generator's directory: complete and verified, or refused in one sentence that names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny_generator
from raekit import generator_files
from raekit.errors import UserError
from raekit.generate import load_generator

TENSORS = {"backbone.w": torch.arange(6.0), "conditioner.b": torch.ones(2, dtype=torch.bfloat16)}
SETTINGS = {"backbone": {"name": "dit"}}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Directory and checksum of a latent space."""
    directory = tmp_path_factory.mktemp("space") / "autoencoder"
    return directory, tiny_generator.latent_space(directory).checksum


@pytest.fixture
def written(tmp_path: Path, space: tuple[Path, str]) -> Path:
    generator_files.write(tmp_path / "model", SETTINGS, TENSORS, *space)
    return tmp_path / "model"


def test_round_trip(written: Path, space: tuple[Path, str]) -> None:
    files = generator_files.read(written)
    assert files.settings == SETTINGS
    assert all(torch.equal(files.tensors[k], v) and files.tensors[k].dtype == v.dtype for k, v in TENSORS.items())
    assert (files.latent_path, files.latent_checksum) == (space[0].resolve(), space[1])
    assert files.load_latent_space().shape == (32, 4, 4)
    content = json.loads((written / "config.json").read_text())
    assert content["format"] == "raekit-generator" and content["version"] == 1
    assert not Path(content["latent_space"]["path"]).is_absolute()
    assert sorted(path.name for path in written.iterdir()) == ["config.json", "model.safetensors"]


def test_a_path_without_a_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model '.*nowhere' is no directory; give a generator's directory"):
        generator_files.read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no config.json"):
        generator_files.read(tmp_path)


def test_an_autoencoder_is_not_a_generator(space: tuple[Path, str]) -> None:
    with pytest.raises(UserError, match=r"is not a generator \(format 'raekit-autoencoder'\)"):
        generator_files.read(space[0])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"version": 1', '"version": 2', "version 2, this raekit reads 1; update"),
        ('"name": "dit"', '"name": "dit_dh"', "do not match the checksum"),
        ("{", "(", "config.json cannot be read"),
    ],
)
def test_a_changed_config_is_refused(written: Path, old: str, new: str, complaint: str) -> None:
    config = written / "config.json"
    config.write_text(config.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=complaint):
        generator_files.read(written)


def test_truncated_weights_are_refused(written: Path) -> None:
    weights = written / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(UserError, match="model.safetensors.*damaged or incomplete"):
        generator_files.read(written)


def test_another_latent_space_is_refused_and_both_are_named(tmp_path: Path) -> None:
    saved = tiny_generator.saved(tmp_path)
    first = generator_files.read(saved).latent_checksum
    other = tiny_generator.latent_space(tmp_path / "autoencoder", seed=5)
    with pytest.raises(UserError, match=f"belongs to the latent space {first[:12]}, but .* is {other.checksum[:12]}"):
        load_generator(saved)
    with pytest.raises(UserError, match=f"belongs to .*{first[:12]}, but the one given is {other.checksum[:12]}"):
        load_generator(saved, latent_space=other)
    with pytest.raises(UserError, match=f"belongs to .*{first[:12]}, but .* is {other.checksum[:12]}"):
        generator_files.write(tmp_path / "x", SETTINGS, TENSORS, tmp_path / "autoencoder", first)
    assert not (tmp_path / "x").exists()


def test_a_latent_space_that_is_not_there_is_named(tmp_path: Path) -> None:
    saved = tiny_generator.saved(tmp_path)
    (tmp_path / "autoencoder").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"latent space is not at '.*autoencoder'; put it there"):
        load_generator(saved)


def test_a_package_without_the_nano_model_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_files, "BUNDLED", "models/none")
    with pytest.raises(UserError, match="raekit train recipes/nano/generator.yaml"):
        generator_files.read()
