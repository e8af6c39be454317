"""Published class-conditional generators: there and back, with the very tables that their files hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
import tiny_published
from raekit.backbones.dit import DiT
from raekit.backbones.dit_dh import DiTDH
from raekit.errors import UserError
from raekit.generate import ClassToImage, load_generator
from raekit.interop.convert import convert
from raekit.interop.dit import LAYOUTS, Generator, export_dit
from raekit.interop.files import read_tensors
from raekit.interop.format import ConvertConfig
from raekit.interop.generator import AS_PUBLISHED
from tiny_published import LATENT, same

ONE = {"width": 40, "depth": 2, "heads": 2}
BACKBONES = {
    "rae_lightning_dit": (DiT, ONE),
    "rae_ddt": (DiTDH, {**ONE, "head_width": 48, "head_depth": 1, "head_heads": 2}),
    "scale_rae_dit": (DiT, ONE),
}
TABLES = ("pos_embed", "t_embedder.W", "freqs_cos", "freqs_sin")


@pytest.fixture
def autoencoder(tmp_path: Path) -> Path:
    """The latent space that the generators live in."""
    encoder = tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"))
    published = tiny_published.save_decoder(tmp_path / "published")
    convert(published, tmp_path / "autoencoder", ConvertConfig(encoder=encoder))
    return tmp_path / "autoencoder"


def published_generator(path: Path, layout: str, latent: tuple[int, int, int] = LATENT) -> Path:
    cls, shape = BACKBONES[layout]
    backbone = cls(cls.Config(**shape, **LAYOUTS[layout].settings), latent, cond_width=40)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    export_dit(Generator(backbone, layout, condition=torch.randn(5, 40)), path)
    return path


@pytest.mark.parametrize("layout", ["rae_lightning_dit", "rae_ddt"])
def test_there_and_back(autoencoder: Path, tmp_path: Path, layout: str) -> None:
    source = published_generator(tmp_path / "dit.pt", layout)
    rows = dict(convert(source, tmp_path / "generator", ConvertConfig(autoencoder=autoencoder)))
    assert rows["from"] == f"{source} (dit)" and rows["layout"] == layout
    generator = load_generator(tmp_path / "generator")
    assert isinstance(generator, ClassToImage)
    assert generator.conditioner.num_classes == 4
    assert generator.config.sampling == AS_PUBLISHED and "50 points of rae_published" in rows["sampling"]
    assert rows["loaded"] == f"{len(read_tensors(source))} of {len(read_tensors(source))} tensors"
    assert rows["checksum"] == generator.checksum[:12]
    assert generator(3, steps=2, output="tensor").shape == (1, 3, 12, 12)
    rows = dict(convert(tmp_path / "generator", tmp_path / "again"))
    assert rows["from"].endswith("(raekit-generator, written as dit)")
    assert rows["written"] == f"{len(read_tensors(source))} tensors"
    assert same(read_tensors(source), read_tensors(tmp_path / "again" / "model.pt"))


@pytest.mark.parametrize("layout", ["rae_lightning_dit", "rae_ddt"])
def test_altered_tables_are_kept(autoencoder: Path, tmp_path: Path, layout: str) -> None:
    """Training code of the papers lets them learn; computed again they would be others."""
    tensors = read_tensors(published_generator(tmp_path / "dit.pt", layout))
    altered = {key: value + torch.randn_like(value) for key, value in tensors.items() if key.endswith(TABLES)}
    assert len(altered) >= 4
    torch.save(tensors | altered, tmp_path / "altered.pt")
    convert(tmp_path / "altered.pt", tmp_path / "generator", ConvertConfig(autoencoder=autoencoder))
    convert(tmp_path / "generator", tmp_path / "again")
    assert same(read_tensors(tmp_path / "again" / "model.pt"), tensors | altered)


@pytest.mark.parametrize("wrapper", ["model", "ema", "both"])
def test_training_checkpoints_are_unwrapped(autoencoder: Path, tmp_path: Path, wrapper: str) -> None:
    """The moving average where there is one; the report says what else was there."""
    tensors = read_tensors(published_generator(tmp_path / "dit.pt", "rae_ddt"))
    online = {key: value + 1 for key, value in tensors.items()}
    content = {"both": {"ema": tensors, "model": online}}.get(wrapper, {wrapper: tensors})
    run = tmp_path / "run"
    run.mkdir()
    torch.save(content | {"step": 7, "optimizer": {"state": {}}}, run / "stage2_model.pt")
    rows = convert(run, tmp_path / "generator", ConvertConfig(autoencoder=autoencoder))
    left_out = " | ".join(text for label, text in rows if label == "left out")
    assert "optimizer, step: state of the training run" in left_out
    assert ("model: weights too, but 'ema' comes first" in left_out) == (wrapper == "both")
    convert(tmp_path / "generator", tmp_path / "again")
    assert same(read_tensors(tmp_path / "again" / "model.pt"), tensors)


def test_missing_and_unknown_keys_are_refused(autoencoder: Path, tmp_path: Path) -> None:
    tensors = read_tensors(published_generator(tmp_path / "dit.pt", "rae_ddt"))
    lacking = {key: value for key, value in tensors.items() if key != "blocks.1.mlp.w3.bias"}
    strange = tensors | {"repa.weight": torch.ones(1)}
    for content, sentence in ((lacking, "1 missing (blocks.1.mlp.w3.bias)"), (strange, "1 unexpected (repa.weight)")):
        torch.save(content, tmp_path / "dit.pt")
        with pytest.raises(UserError) as caught:
            convert(tmp_path / "dit.pt", tmp_path / "out", ConvertConfig(autoencoder=autoencoder))
        assert sentence in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_model_without_a_position_table_is_said_to_be_one(autoencoder: Path, tmp_path: Path) -> None:
    tensors = read_tensors(published_generator(tmp_path / "dit.pt", "rae_ddt"))
    del tensors["pos_embed"]
    torch.save(tensors, tmp_path / "dit.pt")
    rows = dict(convert(tmp_path / "dit.pt", tmp_path / "generator", ConvertConfig(autoencoder=autoencoder)))
    assert rows["layout"] == "rae_ddt, without a position table"


def test_what_is_missing_is_named(autoencoder: Path, tmp_path: Path) -> None:
    small = published_generator(tmp_path / "c.pt", "rae_ddt", latent=(6, 4, 4))
    refused = [
        (published_generator(tmp_path / "a.pt", "rae_ddt"), ConvertConfig(), "--autoencoder"),
        (published_generator(tmp_path / "b.pt", "scale_rae_dit"), ConvertConfig(), "only class-conditional"),
        (small, ConvertConfig(autoencoder=autoencoder), "trained on latents [6, 4, 4]"),
    ]
    for source, config, sentence in refused:
        with pytest.raises(UserError) as caught:
            convert(source, tmp_path / "out", config)
        assert sentence in str(caught.value)
        assert not (tmp_path / "out").exists()
