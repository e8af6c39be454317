"""RAEv2's decoders read sums of layers, which must be stated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
import tiny_published
from raekit.autoencoder.rae import RAE
from raekit.errors import UserError
from raekit.interop.convert import convert
from raekit.interop.files import read_tensors
from raekit.interop.format import ConvertConfig
from tiny_published import same


def test_there_and_back(tmp_path: Path) -> None:
    encoder = tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"), layers=[-2, -1])
    source = tiny_published.save_decoder(tmp_path / "published", with_config=False)
    config = ConvertConfig(format="raev2", encoder=encoder, heads=tiny_published.HEADS)
    rows = dict(convert(source, tmp_path / "ours", config))
    assert rows["encoder"].endswith("4 x 4 tokens, sum of layers [1, 2] (as stated)")
    assert rows["latent"] == "[32, 4, 4], statistics per_position, tau 0.8"
    ours = RAE.load(tmp_path / "ours")
    assert ours.encoder.layers == (1, 2)
    assert torch.equal(ours.decoder.position, tiny_published.decoder()["decoder_pos_embed"])

    convert(tmp_path / "ours", tmp_path / "again", ConvertConfig(format="raev2"))
    assert same(read_tensors(tmp_path / "again" / "model.pt"), tiny_published.decoder())
    assert same(read_tensors(tmp_path / "again" / "stat.pt"), tiny_published.statistics())
    assert dict(convert(tmp_path / "again", tmp_path / "twice"))["from"].endswith("(raev2)")
    assert RAE.load(tmp_path / "twice").checksum == ours.checksum


def test_generators_are_refused(tmp_path: Path) -> None:
    torch.save({"t_embedder.mlp.0.weight": torch.ones(1), "cond_tokens": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="is a generator .* condition tokens in context .* is not known"):
        convert(tmp_path, tmp_path / "ours", ConvertConfig(format="raev2"))
    assert not (tmp_path / "ours").exists()


def test_layers_must_be_stated(tmp_path: Path) -> None:
    source = tiny_published.save_decoder(tmp_path / "published", with_config=False)
    encoder = tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"))
    config = ConvertConfig(format="raev2", encoder=encoder, heads=tiny_published.HEADS)
    with pytest.raises(UserError, match="a sum of encoder layers that its file does not name"):
        convert(source, tmp_path / "ours", config)
    assert not (tmp_path / "ours").exists()
