"""DINOv2 against transformers: which tokens are dropped, with registers and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Dinov2Model, Dinov2WithRegistersModel

import tiny_encoders
from raekit.encoders.dinov2 import DINOv2


@pytest.mark.parametrize(("has_registers", "num_prefix"), [(True, 5), (False, 1)])
def test_drops_class_token_and_registers(tmp_path: Path, has_registers: bool, num_prefix: int) -> None:
    kind = "dinov2" if has_registers else "webssl"
    directory = tiny_encoders.save(kind, tmp_path)
    oracle = (Dinov2WithRegistersModel if has_registers else Dinov2Model).from_pretrained(tmp_path)
    encoder = DINOv2(DINOv2.Config(path=str(directory), input_size=56, has_registers=has_registers, norm="affine"))
    pixels = torch.randn(2, 3, 56, 56)
    expected = oracle.eval()(pixels).last_hidden_state[:, num_prefix:]
    torch.testing.assert_close(encoder.normalise(encoder.hidden(pixels)), expected)


def test_published_checkpoints() -> None:
    assert DINOv2.Config().hub_id == "facebook/dinov2-with-registers-base"
    assert DINOv2.Config(size="large", has_registers=False).hub_id == "facebook/dinov2-large"
    assert DINOv2.Config(size="giant").hub_id == "facebook/dinov2-with-registers-giant"
    assert DINOv2.Config().input_size == 224
