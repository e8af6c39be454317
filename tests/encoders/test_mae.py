"""MAE without its mask: every patch, in order, whatever order the network shuffles into."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

import tiny_encoders
from raekit.encoders.mae import MAE


def test_undoes_the_shuffle(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("mae", tmp_path, norm="affine")
    oracle = transformers.ViTMAEModel.from_pretrained(tmp_path, mask_ratio=0.0).eval()
    pixels = torch.randn(2, 3, 32, 32)
    shuffled = oracle(pixels, noise=torch.rand(2, 16))
    order = shuffled.ids_restore.unsqueeze(-1).expand(-1, -1, 32)
    expected = shuffled.last_hidden_state[:, 1:].gather(1, order)
    torch.testing.assert_close(encoder.normalise(encoder.hidden(pixels)), expected, atol=1e-5, rtol=1e-5)


def test_loads_from_a_pretraining_checkpoint(tmp_path: Path) -> None:
    config = tiny_encoders.mae().config
    config.update({"decoder_hidden_size": 8, "decoder_num_attention_heads": 1, "decoder_intermediate_size": 8})
    config.decoder_num_hidden_layers = 1
    whole = transformers.ViTMAEForPreTraining(config)
    whole.save_pretrained(tmp_path)
    encoder = MAE(MAE.Config(path=str(tmp_path), input_size=32))
    assert torch.equal(encoder.final_norm.weight, whole.vit.layernorm.weight)
    assert not any("decoder" in key for key in encoder.state_dict())


def test_published_checkpoints() -> None:
    assert MAE.Config(size="large").hub_id == "facebook/vit-mae-large" and MAE.Config(size="large").input_size == 256
    assert MAE.Config(size="huge").input_size == 224, "its patch of 14 does not divide 256"
    assert MAE.Config(size="huge", input_size=448).input_size == 448
