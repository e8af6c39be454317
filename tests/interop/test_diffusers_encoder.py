"""Encoders inside diffusers' files: names of every transformers release, and only what diffusers would build."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import tiny_encoders
import tiny_published
from raekit.encoders import ENCODERS
from raekit.encoders.base import RepresentationEncoder
from raekit.errors import UserError
from raekit.interop.diffusers_encoder import (
    KINDS,
    check_same,
    encoder_to,
    hub_name,
    kind_of,
    stated_settings,
    write_encoder,
)
from tiny_published import same

PATCHES = {"dinov2": 14, "mae": 16, "siglip2": 16}


def written(kind: str, directory: Path) -> RepresentationEncoder:
    """The synthetic encoder of that kind, from a directory of its own."""
    tensors = {hub_name(KINDS[kind], key): value for key, value in tiny_published.diffusers_encoder(kind).items()}
    kept = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    write_encoder(KINDS[kind], kept, 2, directory)
    settings = stated_settings(KINDS[kind], directory, 4 * PATCHES[kind])
    encoder: RepresentationEncoder = ENCODERS.build(ENCODERS[kind].Config(**settings))
    return encoder


@pytest.mark.parametrize("kind", list(KINDS))
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    encoder = written(kind, tmp_path / "encoder")
    assert kind_of(encoder) is KINDS[kind]
    published = tiny_published.diffusers_encoder(kind)
    found = {
        key.removeprefix("vision_model."): value for key, value in encoder_to(KINDS[kind], encoder, "installed").items()
    }
    assert found.keys() == published.keys()
    assert same(
        {key: found[key] for key in found if "head." not in key},
        {k: v for k, v in published.items() if "head." not in k},
    )


@pytest.mark.parametrize("kind", ["dinov2", "mae"])
def test_hub_names_are_those_that_transformers_saves(kind: str, tmp_path: Path) -> None:
    """Every release writes the hub's names, whatever it calls the weights in memory."""
    encoder = written(kind, tmp_path / "encoder")
    cls = {"dinov2": transformers.Dinov2WithRegistersModel, "mae": transformers.ViTMAEModel}[kind]
    cls.from_pretrained(tmp_path / "encoder").save_pretrained(tmp_path / "again")
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "again" / "model.safetensors")
    names = encoder_to(KINDS[kind], encoder, "hub").keys()
    assert names == {key for key in saved if not key.startswith("layernorm.")}


@pytest.mark.parametrize(
    ("kind", "key", "name"),
    [
        ("dinov2", "model.encoder.layer.0.attention.q_proj.bias", "encoder.layer.0.attention.attention.query.bias"),
        ("mae", "layers.10.attention.o_proj.weight", "encoder.layer.10.attention.output.dense.weight"),
        ("mae", "vit.encoder.layer.1.output.dense.weight", "encoder.layer.1.output.dense.weight"),
        ("mae", "model.layers.2.mlp.fc2.bias", "encoder.layer.2.output.dense.bias"),
        ("siglip2", "model.vision_model.encoder.layers.0.mlp.fc1.bias", "encoder.layers.0.mlp.fc1.bias"),
    ],
)
def test_names(kind: str, key: str, name: str) -> None:
    assert hub_name(KINDS[kind], key) == name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"norm": "affine"}, "norm = affine, not affine_free"), ({"layers": [1, 2]}, r"layers = \(1, 2\), not None")],
)
def test_settings_that_diffusers_has_not(options: dict[str, object], sentence: str, tmp_path: Path) -> None:
    encoder = tiny_encoders.build("mae", tmp_path / "mae", **options)
    with pytest.raises(UserError, match=f"otherwise than mae .*{sentence}.*intermediate_size = 48, not 3072"):
        kind_of(encoder)


def test_encoders_without_registers_are_another_kind(tmp_path: Path) -> None:
    saved = tiny_encoders.save("webssl", tmp_path / "dinov2")
    encoder = ENCODERS.build(ENCODERS["dinov2"].Config(path=str(saved), has_registers=False, input_size=56))
    with pytest.raises(UserError, match="diffusers has no encoder like dinov2"):
        kind_of(encoder)


def test_weights_are_compared_one_by_one(tmp_path: Path) -> None:
    first, second = (written("mae", tmp_path / name) for name in ("first", "second"))
    check_same(first, second, "weights")
    with torch.no_grad():
        first.backbone.embeddings.cls_token.add_(1)
    with pytest.raises(UserError, match=r"weights: its encoder is not the one of --encoder, mae .*1 weights differ"):
        check_same(first, second, "weights")
