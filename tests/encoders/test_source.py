"""Weights are found where the path says, complete, or one sentence says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import tiny_encoders
from raekit import shipped
from raekit.encoders import ENCODERS, source
from raekit.errors import UserError


def test_path_is_a_directory_then_the_package_then_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, here = tmp_path / "package", tmp_path / "here"
    (package / "models/a").mkdir(parents=True)
    (here / "models/b").mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", package)
    monkeypatch.chdir(here)
    assert Path(source.resolve("models/a")) == package / "models/a"
    assert Path(source.resolve("models/b")) == Path("models/b")
    assert source.resolve("owner/name") == "owner/name"


@pytest.mark.parametrize("path", ["/nowhere/at/all", "./nothing", "three/parts/here", "alone"])
def test_no_such_directory(path: str) -> None:
    with pytest.raises(UserError, match="no directory"):
        source.resolve(path)


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub. Check your connection.")

    monkeypatch.setattr("transformers.SiglipVisionConfig.from_pretrained", offline)
    with pytest.raises(UserError, match="cannot get 'google/siglip2-base-patch16-256'.*connect.*local directory"):
        ENCODERS.build(ENCODERS["siglip2"].Config())


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable checkpoint"):
        ENCODERS.build(tiny_encoders.config("siglip2", tmp_path))


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    file = tiny_encoders.save("siglip2", tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["post_layernorm.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="do not fit SiglipVisionModel.*post_layernorm.weight"):
        ENCODERS.build(tiny_encoders.config("siglip2", tmp_path))


def test_another_kind_of_encoder_is_an_error(tmp_path: Path) -> None:
    tiny_encoders.save("mae", tmp_path)
    with pytest.raises(UserError, match="do not fit"):
        ENCODERS.build(tiny_encoders.config("webssl", tmp_path))


def test_published_names_what_exists() -> None:
    checkpoints = {"small": {256: "a/small-256", 224: "a/small-224"}}
    assert source.published(checkpoints, "small", None) == "a/small-256"
    assert source.published(checkpoints, "small", 224) == "a/small-224"
    with pytest.raises(ValueError, match="resolution: 512 px of size small was never published, only 224, 256"):
        source.published(checkpoints, "small", 512)


def test_digest_follows_values_not_names() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    digest = source.weights_sha256(nn.ModuleDict({"a": first, "b": second}))
    assert digest == source.weights_sha256(nn.Sequential(second, first))
    with torch.no_grad():
        first.weight[0, 0] += 1e-6
    assert digest != source.weights_sha256(nn.Sequential(first, second))
