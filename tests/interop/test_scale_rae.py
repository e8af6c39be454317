"""Scale-RAE's decoder directories: config.json and model.pt, and a round trip that changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
import tiny_published
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.rae import RAE
from raekit.errors import UserError
from raekit.interop.convert import convert
from raekit.interop.decoder import NOTE, read_settings
from raekit.interop.files import read_tensors
from raekit.interop.format import ConvertConfig, Source
from raekit.interop.scale_rae import ScaleRAEDecoder
from tiny_published import same


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A published decoder as our artefact."""
    encoder = tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"))
    source = tiny_published.save_decoder(tmp_path / "published", with_statistics=False)
    rows = dict(convert(source, tmp_path / "ours", ConvertConfig(encoder=encoder)))
    assert rows["from"] == f"{source} (scale_rae)" and rows["loaded"] == "40 of 40 tensors"
    assert rows["latent"] == "[32, 4, 4], statistics none, tau 0.0"
    return tmp_path / "ours"


def test_there_and_back(ours: Path, tmp_path: Path) -> None:
    convert(ours, tmp_path / "again", ConvertConfig(format="scale_rae"))
    assert same(read_tensors(tmp_path / "again" / "model.pt"), tiny_published.decoder())
    assert not (tmp_path / "again" / "stat.pt").exists()
    settings = read_settings(tmp_path / "again" / "config.json")
    assert settings.pop(NOTE)["format"] == "scale_rae"
    assert settings == tiny_published.decoder_config() | {"hidden_size": 32}
    assert dict(convert(tmp_path / "again", tmp_path / "twice"))["from"].endswith("(scale_rae)")


def test_an_altered_position_table_is_kept(ours: Path) -> None:
    assert torch.equal(RAE.load(ours).decoder.position, tiny_published.decoder()["decoder_pos_embed"])


def test_statistics_are_those_of_tokens(tmp_path: Path) -> None:
    encoder = tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"))
    source = tiny_published.save_decoder(tmp_path / "published")
    convert(source, tmp_path / "ours", ConvertConfig(encoder=encoder))
    convert(tmp_path / "ours", tmp_path / "again", ConvertConfig(format="scale_rae"))
    written = read_tensors(tmp_path / "again" / "stat.pt")
    assert written.keys() == {"running_mean", "running_var"} and written["running_mean"].shape == (16, 32)
    convert(tmp_path / "again", tmp_path / "twice")
    assert RAE.load(tmp_path / "twice").checksum == RAE.load(tmp_path / "ours").checksum


@pytest.mark.parametrize(("width", "name", "size"), [(1152, "siglip2", "so400m"), (1024, "webssl", "300m")])
def test_encoders_of_the_release(width: int, name: str, size: str) -> None:
    tiny = ViTDecoder(ViTDecoder.Config(width=16, depth=1, heads=2, mlp_width=16, patch_size=1), width, 16)
    found, origin = ScaleRAEDecoder(ScaleRAEDecoder.Config()).encoder_of(Source(Path("model.pt")), tiny)
    assert (found.model_dump()["name"], found.model_dump()["size"]) == (name, size) and str(width) in origin


def test_another_width_needs_its_encoder_named(tmp_path: Path) -> None:
    source = tiny_published.save_decoder(tmp_path / "published", with_statistics=False)
    with pytest.raises(UserError, match="does not show which encoder .* --encoder"):
        convert(source, tmp_path / "ours")
