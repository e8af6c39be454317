"""A path that may hold published weights, and the options that go with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_published
from raekit.errors import UserError
from raekit.interop import FORMATS
from raekit.interop.format import ConvertConfig, Format, Source


def test_weights_of_a_file_and_of_its_directory(tmp_path: Path) -> None:
    saved = tiny_published.save_decoder(tmp_path / "published")
    for path in (saved, saved / "model.pt"):
        source = Source(path)
        assert source.file == saved / "model.pt"
        assert source.keys == tiny_published.decoder().keys()
        assert source.settings["decoder_hidden_size"] == tiny_published.WIDTH


@pytest.mark.parametrize("name", ["stage2_model.pt", "model.safetensors.index.json"])
def test_weights_by_their_usual_names(name: str, tmp_path: Path) -> None:
    tensors = tiny_published.decoder()
    if name.endswith(".pt"):
        torch.save(tensors, tmp_path / name)
    else:
        tiny_published.save_shards(tensors, tmp_path)
    assert Source(tmp_path).file == tmp_path / name
    assert Source(tmp_path).keys == tensors.keys()


def test_a_directory_of_other_directories_has_no_keys(tmp_path: Path) -> None:
    assert Source(tmp_path).keys == frozenset()
    with pytest.raises(
        UserError, match="holds none of model.pt, stage2_model.pt, diffusion_pytorch_model.safetensors, "
    ):
        _ = Source(tmp_path).file


def test_what_was_stated() -> None:
    config = ConvertConfig(format="rae", tau=0.0, statistics="none", heads=None)
    assert config.stated == {"tau": 0.0, "statistics": "none"}
    assert ConvertConfig().stated == {}
    assert ConvertConfig.model_validate({"statistics": "stat.pt"}).statistics == Path("stat.pt")


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_whole(name: str) -> None:
    """A row is a format that says which options it takes, all of them known; and it recognises nothing in nothing."""
    kind = FORMATS[name]
    assert issubclass(kind, Format) and kind(kind.Config()).name == name
    assert set(ConvertConfig.model_fields) - {"format"} >= kind.READS | kind.WRITES
    assert (kind.OURS is None) == (kind.write is Format.write)


@pytest.mark.parametrize("name", list(FORMATS))
def test_no_format_recognises_strange_weights(name: str, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt")
    assert not FORMATS[name].recognises(Source(tmp_path))
    (tmp_path / "empty").mkdir()
    assert not FORMATS[name].recognises(Source(tmp_path / "empty"))
