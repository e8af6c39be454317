"""WebSSL keeps the affine part of the final norm: transformers' own output without the class token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import Dinov2Model

import tiny_encoders
from raekit.encoders.webssl import CHECKPOINTS, WebSSL


def test_is_the_last_hidden_state_without_the_class_token(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("webssl", tmp_path)
    oracle = Dinov2Model.from_pretrained(tmp_path).eval()
    image = torch.rand(2, 3, 56, 56)
    expected = oracle(encoder.preprocess(image)).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(image), expected)
    assert encoder.config.hub_id == "facebook/webssl-dino300m-full2b-224"


def test_published_checkpoints() -> None:
    assert list(CHECKPOINTS) == ["300m", "1b", "2b", "3b", "5b", "7b"]
    assert WebSSL.Config(size="5b").hub_id == "facebook/webssl-dino5b-full2b-224"
    assert WebSSL.Config(size="7b", resolution=518).hub_id == "facebook/webssl-dino7b-full8b-518"
    with pytest.raises(ValidationError, match="518 px of size 1b was never published, only 224"):
        WebSSL.Config(size="1b", resolution=518)
