"""Merged adapters draw what loaded ones draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import tiny_adapter
from raekit.generate import TextToImage
from raekit.interop.lora import merge_lora

pytest.importorskip("peft")


def test_merged_adapters_draw_the_same_and_need_no_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = tiny_adapter.saved(tmp_path)
    generator = TextToImage.load(path, "cpu", "fp32")
    generator.load_lora(folder, scale=0.5)
    expected = generator("a red circle", output="latent")
    checksum = merge_lora(path, folder, tmp_path / "merged", scale=0.5)
    monkeypatch.setitem(sys.modules, "peft", None)
    merged = TextToImage.load(tmp_path / "merged", "cpu", "fp32")
    assert merged.checksum == checksum
    assert merged.config.condition.is_llm_trained  # the adapted language model became a part of it
    torch.testing.assert_close(merged("a red circle", output="latent"), expected, rtol=1e-4, atol=1e-4)
