"""Merged adapters draw what loaded ones draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import tiny_adapter
import tiny_generator
import tiny_language_model
from raekit.generate import TextToImage
from raekit.interop.lora import merge_lora
from raekit.understand import Understander

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


def test_adapters_of_a_condition_become_a_part_of_the_language_model_too(tmp_path: Path) -> None:
    own = {"name": "query", "language_model": tiny_language_model.saved(tmp_path), "precision": "fp32"}
    built = tiny_generator.text_to_image(tmp_path, condition={**own, "width": 24, "lora": {"rank": 2}})
    built.save(tmp_path / "generator", tmp_path / "autoencoder")
    folder = tiny_adapter.beside(tmp_path / "generator", tmp_path / "adapters")
    generator = TextToImage.load(tmp_path / "generator", "cpu", "fp32")
    plain = generator("a red circle", output="latent")
    generator.load_lora(folder)
    expected = generator("a red circle", output="latent")
    assert not torch.allclose(expected, plain, rtol=1e-3, atol=1e-3)
    merge_lora(tmp_path / "generator", folder, tmp_path / "merged")
    merged = TextToImage.load(tmp_path / "merged", "cpu", "fp32")
    assert merged.config.condition.is_llm_trained and merged.config.condition.lora is None
    torch.testing.assert_close(merged("a red circle", output="latent"), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("own", [None, {"rank": 2, "alpha": 4.0}])
def test_a_unified_model_takes_in_its_last_layer_and_its_own_adapters(tmp_path: Path, own: dict[str, float]) -> None:
    tiny_generator.unified(tmp_path, {"lora": own}).save(tmp_path / "generator", tmp_path / "autoencoder")
    folder = tiny_adapter.beside(tmp_path / "generator", tmp_path / "adapters")
    generator = TextToImage.load(tmp_path / "generator", "cpu", "fp32")
    images, plain = torch.rand(2, 3, 16, 16), generator("a red circle", output="latent")
    generator.load_lora(folder)
    expected = generator("a red circle", output="latent")
    assert not torch.allclose(expected, plain, rtol=1e-3, atol=1e-3)
    answers = Understander.of(generator).answer(images, "what?", max_tokens=5)
    merge_lora(tmp_path / "generator", folder, tmp_path / "merged")
    merged = TextToImage.load(tmp_path / "merged", "cpu", "fp32")
    assert merged.config.condition.is_llm_trained and merged.config.condition.lora is None
    torch.testing.assert_close(merged("a red circle", output="latent"), expected, rtol=1e-4, atol=1e-4)
    assert Understander.of(merged).answer(images, "what?", max_tokens=5) == answers
