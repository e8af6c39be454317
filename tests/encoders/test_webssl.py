"""WebSSL keeps the affine part of the final norm: transformers' own output without the class token."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Dinov2Model

import tiny_encoders


def test_is_the_last_hidden_state_without_the_class_token(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("webssl", tmp_path)
    oracle = Dinov2Model.from_pretrained(tmp_path).eval()
    image = torch.rand(2, 3, 56, 56)
    expected = oracle(encoder.preprocess(image)).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(image), expected)
    assert encoder.config.hub_id == "facebook/webssl-dino300m-full2b-224"
