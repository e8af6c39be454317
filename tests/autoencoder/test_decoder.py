"""The decoder's sizes, its layout and its errors; its numbers are held by tests/parity."""

from __future__ import annotations

import pytest
import torch

from raekit.autoencoder.decoder import PRESETS, ViTDecoder, unpatchify
from raekit.errors import UserError
from raekit.layers.embeddings import sincos_2d

TINY = ViTDecoder.Config(size="nano", width=16, depth=2, heads=2, mlp_width=24, patch_size=4)


@pytest.fixture
def decoder() -> ViTDecoder:
    torch.manual_seed(0)
    return ViTDecoder(TINY, latent_channels=6, grid=3)


@pytest.mark.parametrize(
    ("size", "count"), [("S", 21_984_384), ("B", 86_435_328), ("L", 304_150_272), ("XL", 415_352_704)]
)
def test_published_parameter_counts(size: str, count: int) -> None:
    """Of the published decoders, whose position table counts as a parameter."""
    with torch.device("meta"):
        decoder = ViTDecoder(ViTDecoder.Config(size=size), latent_channels=768, grid=16)
    assert sum(p.numel() for p in decoder.parameters()) + decoder.position.numel() == count
    assert decoder.output_size == 256


def test_preset_fields_can_be_overridden() -> None:
    assert ViTDecoder.Config(size="XL").shape == PRESETS["XL"]
    assert ViTDecoder.Config(size="XL", patch_size=14).shape == PRESETS["SO"]


def test_output_size_and_last_layer(decoder: ViTDecoder) -> None:
    image = decoder(torch.randn(2, 9, 6))
    assert image.shape == (2, 3, 12, 12)
    (gradient,) = torch.autograd.grad(image.sum(), decoder.last_layer)
    assert gradient.shape == (48, 16) and gradient.abs().sum() > 0


def test_patch_vectors_run_row_column_channel() -> None:
    patches = torch.arange(2 * 2 * 2 * 2 * 3.0).view(1, 4, 12)
    image = unpatchify(patches, patch_size=2)
    for token, row, column, channel in ((0, 0, 0, 0), (1, 0, 1, 2), (2, 1, 0, 1), (3, 1, 1, 2)):
        pixel = image[0, channel, 2 * (token // 2) + row, 2 * (token % 2) + column]
        assert pixel == patches[0, token, (row * 2 + column) * 3 + channel]


def test_class_token_starts_at_zero_and_positions_are_fixed(decoder: ViTDecoder) -> None:
    assert not decoder.cls_token.any()
    assert torch.equal(decoder.position[0], sincos_2d(16, 3, cls_token=True))
    assert not decoder.position[0, 0].any()
    assert "position" in decoder.state_dict() and "position" not in dict(decoder.named_parameters())


def test_other_grids_are_refused_unless_asked_for(decoder: ViTDecoder) -> None:
    with pytest.raises(UserError, match="got 16 tokens, its grid is 3 x 3"):
        decoder(torch.randn(1, 16, 6))
    decoder.config = TINY.model_copy(update={"resize_grid": True})
    assert decoder(torch.randn(1, 16, 6)).shape == (1, 3, 12, 12)


def test_width_must_fit_heads_and_positions() -> None:
    with pytest.raises(UserError, match="width: 18 must be a multiple of 4"):
        ViTDecoder(TINY.model_copy(update={"width": 18}), latent_channels=6, grid=3)


def test_runs_under_bf16_autocast(decoder: ViTDecoder) -> None:
    tokens = torch.randn(1, 9, 6)
    with torch.autocast("cpu", torch.bfloat16):
        image = decoder(tokens)
    assert (image.float() - decoder(tokens)).abs().max() < 0.05
