"""Whole conversions: published to ours to published, bit for bit, and what is said when something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import LatentStatistics
from raekit.autoencoder.rae import RAE
from raekit.backbones.dit import DiT
from raekit.backbones.dit_dh import DiTDH
from raekit.errors import UserError
from raekit.generate import ClassToImage, load_generator
from raekit.interop.convert import ConvertConfig, convert, kind_of
from raekit.interop.decoder import export_decoder, export_statistics
from raekit.interop.dit import LAYOUTS, Generator, export_dit
from raekit.interop.files import read_tensors

LATENT = (tiny_encoders.WIDTH, 4, 4)
ENCODER = "siglip2"
ONE = {"width": 40, "depth": 2, "heads": 2}
BACKBONES = {
    "rae_lightning_dit": (DiT, ONE),
    "rae_ddt": (DiTDH, {**ONE, "head_width": 48, "head_depth": 1, "head_heads": 2}),
    "scale_rae_dit": (DiT, ONE),
}


@pytest.fixture
def encoder(tmp_path: Path):
    """Settings of a tiny encoder on disk."""
    return tiny_encoders.config(ENCODER, tiny_encoders.save(ENCODER, tmp_path / "encoder"))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A published decoder directory for that encoder, with its statistics beside it."""
    shape = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 24, "patch_size": 3}
    export_decoder(ViTDecoder(ViTDecoder.Config(**shape), LATENT[0], LATENT[1]), tmp_path / "published")
    export_statistics(LatentStatistics(torch.randn(LATENT), torch.rand(LATENT)), tmp_path / "published" / "stat.pt")
    return tmp_path / "published"


@pytest.fixture
def ours(published: Path, encoder, tmp_path: Path) -> Path:
    """The same as our artefact."""
    convert(published, tmp_path / "ours", ConvertConfig(encoder=encoder, statistics=published / "stat.pt", tau=0.2))
    return tmp_path / "ours"


def published_generator(path: Path, layout: str, latent: tuple[int, int, int] = LATENT) -> Path:
    cls, shape = BACKBONES[layout]
    backbone = cls(cls.Config(**shape, **LAYOUTS[layout].settings), latent, cond_width=40)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    export_dit(Generator(backbone, layout, condition=torch.randn(5, 40)), path)
    return path


def same(first: Path, second: Path) -> bool:
    a, b = read_tensors(first), read_tensors(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_decoder_there_and_back(published: Path, ours: Path, tmp_path: Path) -> None:
    rows = dict(convert(ours, tmp_path / "again", ConvertConfig()))
    assert same(published / "model.pt", tmp_path / "again" / "model.pt")
    assert same(published / "stat.pt", tmp_path / "again" / "stat.pt")
    assert (published / "config.json").read_bytes() == (tmp_path / "again" / "config.json").read_bytes()
    assert rows["from"] == f"{ours} (raekit-autoencoder)"
    assert rows["latent"] == "[32, 4, 4], statistics per_position"
    assert rows["decoder"] == "16 wide, 2 deep, 2 heads, 12 px out"
    assert rows["tensors"].endswith("every key accounted for")


def test_the_artefact_states_what_was_said(ours: Path) -> None:
    rae = RAE.load(ours)
    assert rae.config.tau == 0.2
    assert rae.shape == LATENT


@pytest.mark.parametrize("layout", ["rae_lightning_dit", "rae_ddt"])
def test_generator_there_and_back(ours: Path, tmp_path: Path, layout: str) -> None:
    source = published_generator(tmp_path / "dit.pt", layout)
    rows = dict(convert(source, tmp_path / "generator", ConvertConfig(autoencoder=ours)))
    assert rows["layout"] == layout
    generator = load_generator(tmp_path / "generator")
    assert isinstance(generator, ClassToImage)
    assert generator.conditioner.num_classes == 4
    assert generator(3, steps=1, output="tensor").shape == (1, 3, 12, 12)
    convert(tmp_path / "generator", tmp_path / "again", ConvertConfig())
    assert same(source, tmp_path / "again" / "model.pt")


def test_kinds(published: Path, ours: Path, tmp_path: Path) -> None:
    assert kind_of(published) == kind_of(published / "model.pt") == "published decoder"
    assert kind_of(ours) == "raekit-autoencoder"
    assert kind_of(published_generator(tmp_path / "a.pt", "scale_rae_dit")) == "published generator"


def test_what_is_missing_is_named(published: Path, ours: Path, tmp_path: Path) -> None:
    out, nothing = tmp_path / "out", ConvertConfig()
    refused = [
        (published, nothing, "--encoder"),
        (published_generator(tmp_path / "a.pt", "rae_ddt"), nothing, "--autoencoder"),
        (published_generator(tmp_path / "b.pt", "scale_rae_dit"), nothing, "only class-conditional"),
        (published / "stat.pt", nothing, "neither decoder nor generator (first keys: mean, var)"),
        (tmp_path / "none.pt", nothing, "no such file"),
        (
            published_generator(tmp_path / "c.pt", "rae_ddt", latent=(6, 4, 4)),
            ConvertConfig(autoencoder=ours),
            "trained on latents [6, 4, 4]",
        ),
    ]
    for source, config, sentence in refused:
        with pytest.raises(UserError) as caught:
            convert(source, out, config)
        assert sentence in str(caught.value)
        assert not out.exists()


def test_a_left_over_key_is_named(published: Path, encoder, tmp_path: Path) -> None:
    tensors = read_tensors(published / "model.pt") | {"decoder_extra.weight": torch.zeros(1)}
    torch.save(tensors, published / "model.pt")
    with pytest.raises(UserError, match=r"unexpected \(decoder_extra\.weight\)"):
        convert(published, tmp_path / "out", ConvertConfig(encoder=encoder))


def test_broken_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="not valid JSON"):
        kind_of(tmp_path)
