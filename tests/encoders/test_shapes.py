"""The tables of published sizes: what transformers builds from them, offline, is what the model cards count."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny_encoders
from raekit.encoders import ENCODERS
from raekit.encoders.shapes import Shape
from raekit.errors import UserError

COUNTS = {
    "dinov2": {"small": 22_058_112, "base": 86_583_552, "large": 304_372_736, "giant": 1_136_486_912},
    "dinov3": {
        "small": 21_596_544,
        "small_plus": 28_692_864,
        "base": 85_660_416,
        "large": 303_129_600,
        "huge_plus": 840_592_640,
        "7b": 6_716_035_072,
    },
    "mae": {"base": 85_798_656, "large": 303_301_632, "huge": 630_764_800},
    "siglip2": {
        "base": 85_843_200,
        "large": 303_361_024,
        "so400m": 412_442_352,
        "siglip1_base": 85_843_200,
        "siglip1_so400m": 412_442_352,
    },
    "webssl": {
        "300m": 303_655_168,
        "1b": 1_134_771_200,
        "2b": 2_084_237_568,
        "3b": 2_948_317_184,
        "5b": 4_938_338_816,
        "7b": 6_450_170_880,
    },
}
"""Exact, of what transformers builds; SigLIP without its pooling head."""

ON_THE_HUB = {"small": 21.6, "small_plus": 28.7, "base": 85.7, "huge_plus": 840, "7b": 6_725}
"""Millions of weights of DINOv3, as the hub states them or as its files of float32 are long (3.36 and 26.9 GB)."""


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in ((socket, "getaddrinfo"), (socket.socket, "connect")):
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail("went to the network"))


@pytest.mark.parametrize("name", COUNTS)
def test_every_published_size_has_its_exact_count(name: str) -> None:
    lines = dict(ENCODERS[name].variants())
    assert {size: int(line.split(": ")[1].split()[0].replace(",", "")) for size, line in lines.items()} == COUNTS[name]


def test_counts_are_those_of_the_hub() -> None:
    assert {size: COUNTS["dinov3"][size] / 1e6 for size in ON_THE_HUB} == pytest.approx(ON_THE_HUB, rel=0.003)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dinov2", {"size": "small"}),
        ("dinov2", {"size": "base", "has_registers": False}),
        ("dinov3", {"size": "small_plus", "layers": "last_7", "precision": "bf16"}),
        ("mae", {"size": "base"}),
        ("siglip2", {"size": "so400m"}),
        ("siglip2", {"size": "base", "resolution": 512}),
        ("webssl", {"size": "300m"}),
    ],
)
def test_an_outline_has_the_sizes_of_its_table_and_no_weights(name: str, settings: dict[str, object]) -> None:
    kind = ENCODERS[name]
    config = kind.Config.model_validate(settings)
    outline, shape = kind.outline(config), config.shape
    assert (outline.width, outline.depth, outline.patch_size) == (shape.width, shape.depth, shape.patch_size)
    assert outline.grid == (config.input_size or shape.image_size) // shape.patch_size
    assert all(parameter.device.type == "meta" for parameter in outline.parameters())
    assert sum(parameter.numel() for parameter in outline.parameters()) == kind.num_parameters(config)
    widths = {layer.out_features for layer in outline.blocks[0].modules() if isinstance(layer, nn.Linear)}
    # DINOv2 keeps both halves of a gated MLP in one matrix.
    assert widths & {shape.mlp_width, 2 * shape.mlp_width}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_outline_of_a_directory_is_that_of_its_encoder(name: str, tmp_path: Path) -> None:
    encoder = tiny_encoders.build(name, tmp_path)
    outline = ENCODERS[name].outline(encoder.config)
    assert {key: tuple(value.shape) for key, value in outline.state_dict().items()} == {
        key: tuple(value.shape) for key, value in encoder.state_dict().items()
    }
    with torch.device("meta"):
        assert outline(torch.empty(2, 3, 40, 40)).shape == (2, encoder.grid**2, encoder.width)


def test_where_nothing_is_published_a_path_is_asked_for(tmp_path: Path) -> None:
    nano = ENCODERS["nano"]
    with pytest.raises(UserError, match="no published checkpoint"):
        _ = nano.Config().shape
    with pytest.raises(UserError, match="no directory .*nowhere.*raekit train recipes/nano/encoder.yaml"):
        nano.outline(nano.Config(path=str(tmp_path / "nowhere")))
    assert nano.variants() == []


def test_a_shape_reads_as_a_line() -> None:
    assert str(Shape(384, 12, 6, 1536, 16, 224)) == "width 384, depth 12, heads 6, MLP 1536, patch 16"
    assert "MLP 1536 gated" in str(Shape(384, 12, 6, 1536, 16, 224, is_gated=True))
