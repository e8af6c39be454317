"""Judging by latents leaves out the decoder and the encoder, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_generator
from raekit.bench.verify import bench_verify
from raekit.errors import UserError


def test_latents_save_the_decoder_and_the_encoder(tmp_path: Path) -> None:
    by_latents, by_pictures = bench_verify(tiny_generator.text_to_image(tmp_path), num=4, repeats=1)
    assert set(by_latents.part_seconds) == {"looking at latents", "language model"}
    assert set(by_pictures.part_seconds) == {"rendering", "looking again", "language model"}
    assert 0 < by_latents.call_flops < by_pictures.call_flops
    assert by_latents.count == by_pictures.count == 4


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model: takes class labels, so there is no language model"):
        bench_verify(tiny_generator.class_to_image(tmp_path / "class"))
    with pytest.raises(UserError, match="'siglip_score' sees pixels only"):
        bench_verify(tiny_generator.text_to_image(tmp_path / "text"), verifier="siglip_score")
