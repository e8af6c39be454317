"""DINOv3 against transformers: the norm, the tokens that are dropped, and positions that know no table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import DINOv3ViTModel

import tiny_encoders
from raekit.encoders.dinov3 import SIZES, DINOv3


@pytest.mark.parametrize("options", [{}, {"use_gated_mlp": True, "hidden_act": "silu"}], ids=["plain", "gated"])
def test_drops_class_token_and_registers(tmp_path: Path, options: dict[str, object]) -> None:
    """The plus sizes and 7b have gated MLPs."""
    torch.manual_seed(0)
    tiny_encoders.dinov3(**options).save_pretrained(tmp_path)
    oracle = DINOv3ViTModel.from_pretrained(tmp_path).eval()
    encoder = DINOv3(DINOv3.Config(path=str(tmp_path), input_size=32, norm="affine"))
    pixels = torch.randn(2, 3, 32, 32)
    expected = oracle(pixels).last_hidden_state[:, 5:]
    torch.testing.assert_close(encoder.normalise(encoder.hidden(pixels)), expected)


def test_other_sizes_need_no_interpolation(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("dinov3", tmp_path, input_size=48, norm="affine")
    oracle = DINOv3ViTModel.from_pretrained(tmp_path).eval()
    image = torch.rand(1, 3, 48, 48)
    expected = oracle(encoder.preprocess(image)).last_hidden_state[:, 5:]
    assert encoder.grid == 6
    torch.testing.assert_close(encoder(image), expected)


def test_norm_is_affine_free_by_default(tmp_path: Path) -> None:
    tokens = tiny_encoders.build("dinov3", tmp_path)(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, correction=0), torch.ones(2, 16), atol=1e-2, rtol=0)


def test_published_checkpoints() -> None:
    assert DINOv3.Config().hub_id == "facebook/dinov3-vitb16-pretrain-lvd1689m"
    assert DINOv3.Config(size="huge_plus").hub_id == "facebook/dinov3-vith16plus-pretrain-lvd1689m"
    assert len(set(SIZES.values())) == 6
    assert DINOv3.Config().input_size == 256


def test_layers_of_raev2() -> None:
    """K = 7 of the published configuration: every second block of 24, the last among them."""
    config = DINOv3.Config(size="large", layers=[-13, -11, -9, -7, -5, -3, -1])
    assert config.layers is not None and [25 + n for n in config.layers] == [12, 14, 16, 18, 20, 22, 24]
