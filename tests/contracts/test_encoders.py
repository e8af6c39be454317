"""What every registered encoder promises; a new row in the registry is tested the day it is added."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny_encoders
from raekit.encoders import ENCODERS
from raekit.encoders.base import RepresentationEncoder


@pytest.fixture(params=sorted(ENCODERS), scope="module")
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RepresentationEncoder:
    return tiny_encoders.build(request.param, tmp_path_factory.mktemp(request.param))


def images(encoder: RepresentationEncoder, batch: int = 2) -> Tensor:
    size = (batch, 3, encoder.input_size, encoder.input_size)
    return torch.rand(size, generator=torch.Generator().manual_seed(1))


def test_one_token_a_patch(encoder: RepresentationEncoder) -> None:
    tokens = encoder(images(encoder))
    assert encoder.grid * encoder.patch_size == encoder.input_size
    assert tokens.shape == (2, encoder.grid**2, encoder.width)
    assert tokens.dtype == torch.float32 and tokens.isfinite().all()


def test_tokens_are_in_raster_order(encoder: RepresentationEncoder) -> None:
    """A change in one patch changes the token of that patch most."""
    image = images(encoder, batch=1)
    row, column, patch = 1, 2, encoder.patch_size
    changed = image.clone()
    changed[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 0
    difference = (encoder.hidden(encoder.preprocess(changed)) - encoder.hidden(encoder.preprocess(image))).norm(dim=-1)
    assert difference.argmax().item() == row * encoder.grid + column


def test_is_deterministic_and_sees_each_image_alone(encoder: RepresentationEncoder) -> None:
    image = images(encoder, batch=3)
    together = encoder(image)
    assert torch.equal(together, encoder(image))
    torch.testing.assert_close(encoder(image[1:2]), together[1:2], atol=1e-5, rtol=1e-5)


def test_is_frozen(encoder: RepresentationEncoder) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(images(encoder).requires_grad_()).requires_grad


def test_features_carry_gradients_to_the_image(encoder: RepresentationEncoder) -> None:
    image = images(encoder).requires_grad_()
    features = encoder.features(image)
    assert torch.equal(features, encoder(image))
    features.square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_resizes_other_images(encoder: RepresentationEncoder) -> None:
    size = encoder.input_size + 8
    assert encoder(torch.rand(1, 3, size, size - 3)).shape == (1, encoder.grid**2, encoder.width)


def test_runs_under_bf16_autocast(encoder: RepresentationEncoder) -> None:
    image = images(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(image)
    assert tokens.dtype == torch.float32, "the final norm stays in float32"
    assert (tokens - encoder(image)).abs().mean() < 0.05


def test_larger_input_gives_a_larger_grid(encoder: RepresentationEncoder) -> None:
    larger = ENCODERS.build(encoder.config.model_copy(update={"input_size": 2 * encoder.input_size}))
    assert larger(images(larger)).shape == (2, 4 * encoder.grid**2, encoder.width)
    assert larger.fingerprint() == encoder.fingerprint()


def test_fingerprint_names_the_weights(encoder: RepresentationEncoder, tmp_path: Path) -> None:
    fingerprint = encoder.fingerprint()
    assert fingerprint["source"] == encoder.config.path
    other = tiny_encoders.build(str(fingerprint["name"]), tmp_path, seed=1).fingerprint()
    assert other["sha256"] != fingerprint["sha256"] and other["name"] == fingerprint["name"]
