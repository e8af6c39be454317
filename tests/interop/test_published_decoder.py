"""What all published decoders share: encoder, statistics and noise come from options, our note or the layout."""

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


@pytest.fixture
def encoder(tmp_path: Path):
    """Settings of a tiny encoder on disk."""
    return tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"))


def test_a_checkpoint_of_the_training(encoder, tmp_path: Path) -> None:
    """The moving average under its wrappers, beside the encoder and the state of the run: all is accounted for."""
    wrapped = {f"module.decoder.{key}": value for key, value in tiny_published.decoder().items()}
    wrapped["module.encoder.encoder.layernorm.weight"] = torch.zeros(1)
    torch.save({"model": {}, "ema": wrapped, "optimizer": {}, "step": 7}, tmp_path / "ep-last.pt")
    config = ConvertConfig(encoder=encoder, heads=tiny_published.HEADS)
    rows = convert(tmp_path / "ep-last.pt", tmp_path / "ours", config)
    assert ("loaded", f"{len(wrapped) - 1} of {len(wrapped)} tensors") in rows
    left_out = [value for label, value in rows if label == "left out"]
    assert left_out == [
        "model: weights too, but 'ema' comes first",
        "2 keys, optimizer, step: state of the training run, no weights",
        "encoder.encoder.layernorm.weight: the frozen encoder, which the artefact names instead",
    ]
    assert dict(rows)["statistics"] == "none: the tokens are used as they are"
    convert(tmp_path / "ours", tmp_path / "again")
    assert same(read_tensors(tmp_path / "again" / "model.pt"), tiny_published.decoder())


def test_a_missing_class_token_is_reported(encoder, tmp_path: Path) -> None:
    tensors = tiny_published.decoder()
    del tensors["trainable_cls_token"]
    torch.save(tensors, tmp_path / "model.pt")
    config = ConvertConfig(encoder=encoder, heads=tiny_published.HEADS)
    rows = dict(convert(tmp_path / "model.pt", tmp_path / "ours", config))
    assert rows["absent"] == "trainable_cls_token: zeros, as at initialisation"
    assert not RAE.load(tmp_path / "ours").decoder.cls_token.any()


def test_options_come_before_the_note_and_the_note_before_the_layout(encoder, tmp_path: Path) -> None:
    published = tiny_published.save_decoder(tmp_path / "published", with_statistics=True)
    config = ConvertConfig(encoder=encoder, format="rae", tau=0.2)
    rows = dict(convert(published, tmp_path / "ours", config))
    assert rows["encoder"].endswith("32 px, 4 x 4 tokens (as stated)")
    assert rows["statistics"] == str(published / "stat.pt")
    assert rows["latent"] == "[32, 4, 4], statistics per_position, tau 0.2"

    convert(tmp_path / "ours", tmp_path / "exported")
    rows = dict(convert(tmp_path / "exported", tmp_path / "twice"))
    assert rows["from"].endswith("(rae)") and rows["encoder"].endswith("(as its config.json says)")
    assert RAE.load(tmp_path / "twice").checksum == RAE.load(tmp_path / "ours").checksum

    rows = dict(convert(tmp_path / "exported", tmp_path / "plain", ConvertConfig(tau=0.5, statistics="none")))
    assert rows["latent"] == "[32, 4, 4], statistics none, tau 0.5"


def test_parts_of_different_latent_spaces_are_refused(encoder, tmp_path: Path) -> None:
    published = tiny_published.save_decoder(tmp_path / "published")
    larger = encoder.model_copy(update={"input_size": 64})
    sentence = "made for 4 x 4 tokens of 32 channels, the encoder gives 8 x 8 of 32"
    with pytest.raises(UserError, match=sentence):
        convert(published, tmp_path / "ours", ConvertConfig(encoder=larger))
    torch.save({"mean": torch.zeros(32, 8, 8)}, tmp_path / "stat.pt")
    config = ConvertConfig(encoder=encoder, statistics=tmp_path / "stat.pt")
    with pytest.raises(UserError, match=r"made for latents \[32, 8, 8\], these are \[32, 4, 4\]"):
        convert(published, tmp_path / "ours", config)
    assert not (tmp_path / "ours").exists()
