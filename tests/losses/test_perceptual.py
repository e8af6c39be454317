"""Perceptual losses: zero for equal pictures, a gradient for the first one only, weight files read strictly.

The values of LPIPS are checked in ``parity/cases_training.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tiny_encoders
from raekit.errors import UserError
from raekit.losses.gram import gram_distance
from raekit.losses.perceptual import LPIPS, VGG16_STAGES, EncoderFeatures, from_published

SMALL = ((2,), (3,))


def small_lpips() -> LPIPS:
    loss = LPIPS(SMALL)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.uniform_()
    return loss


def test_lpips_is_zero_for_equal_pictures_and_symmetric() -> None:
    loss, a, b = small_lpips(), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert loss(a, a) == 0
    torch.testing.assert_close(loss(a, b), loss(b, a))
    torch.testing.assert_close(loss.per_sample(a, b).mean(), loss(a, b))


def test_the_picture_gets_a_gradient_and_the_network_none() -> None:
    loss, image = small_lpips(), torch.rand(1, 3, 8, 8, requires_grad=True)
    loss(image, torch.rand(1, 3, 8, 8)).backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_the_distance_is_made_of_the_taps() -> None:
    loss, a, b = small_lpips(), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    taps = loss.taps(a)
    assert [tap.shape for tap in taps] == [(2, 2, 8, 8), (2, 3, 4, 4)]
    torch.testing.assert_close(loss.distance(taps, loss.taps(b)), loss.per_sample(a, b))
    assert gram_distance(taps, taps) == 0 < gram_distance(taps, loss.taps(b))


def test_published_names_of_vgg16_fit() -> None:
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    vgg = {f"features.{i}.{kind}": torch.zeros(1) for i in convolutions for kind in ("weight", "bias")}
    heads = {f"lin{k}.model.1.weight": torch.zeros(1) for k in range(5)}
    with torch.device("meta"):
        own = LPIPS().state_dict()
    for classifier in ("classifier.6.weight", "pre_logits.fc1.bias", "head.fc.weight"):
        published = vgg | heads | {classifier: torch.zeros(1)}
        assert from_published(published, VGG16_STAGES).keys() == own.keys()


def test_weights_of_another_network_are_told(tmp_path: Path) -> None:
    vgg19 = {"features.30.weight": torch.zeros(1), "features.0.weight": torch.zeros(64, 3, 3, 3)}
    save_file(vgg19, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"1 unexpected key \(features.30.weight"):
        LPIPS.from_files(tmp_path, tmp_path)


def test_a_wrong_weight_file_is_told(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.safetensors")
    save_file({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / "heads.safetensors")
    with pytest.raises(UserError, match="does not fit this LPIPS: .* missing key"):
        LPIPS.from_files(tmp_path / "vgg.safetensors", tmp_path / "heads.safetensors")


def test_encoder_distance_is_zero_at_the_target_and_moves_the_picture(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("nano", tmp_path)
    loss, image = EncoderFeatures(encoder), torch.rand(1, 3, 32, 32, requires_grad=True)
    assert loss(image, encoder(image)) < 1e-10
    loss(image, encoder(torch.rand(1, 3, 32, 32))).backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert list(loss.parameters()) == []


def test_encoder_taps_are_normalised_tokens_of_its_blocks(tmp_path: Path) -> None:
    encoder, image = tiny_encoders.build("nano", tmp_path), torch.rand(2, 3, 32, 32)
    (first, last), (only,) = EncoderFeatures(encoder).taps(image), EncoderFeatures(encoder, (-1,)).taps(image)
    assert last.shape == (2, encoder.grid**2, encoder.width) and torch.equal(last, only)
    torch.testing.assert_close(last, encoder.features(image), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.var(dim=-1, correction=0), torch.ones(first.shape[:2]), rtol=1e-3, atol=1e-3)
    assert gram_distance([first, last], [first, last]) == 0
