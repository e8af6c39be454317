"""Resize, pixel statistics and the final norm, each by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tiny_encoders
from raekit.encoders.base import RESIZES, RepresentationEncoder
from raekit.errors import UserError


def siglip(directory: Path, **options: object) -> RepresentationEncoder:
    return tiny_encoders.build("siglip2", directory, **options)


def test_affine_free_norm_standardises_each_token(tmp_path: Path) -> None:
    tokens = siglip(tmp_path)(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, correction=0), torch.ones(2, 16), atol=1e-3, rtol=0)


def test_norms_differ_by_the_affine_part_only(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 32, 32)
    free, affine, none = (siglip(tmp_path, norm=norm) for norm in ("affine_free", "affine", "none"))
    weight, bias = affine.final_norm.weight, affine.final_norm.bias
    torch.testing.assert_close(affine(image), free(image) * weight + bias, atol=1e-5, rtol=0)
    torch.testing.assert_close(F.layer_norm(none(image), (32,), eps=1e-6), free(image))


def test_published_resize_neither_antialiases_nor_clamps(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 64, 64).round()
    expected = F.interpolate(image, (32, 32), mode="bicubic", align_corners=False)
    assert expected.min() < 0 and expected.max() > 1
    torch.testing.assert_close(siglip(tmp_path).preprocess(image), (expected - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("name", "method"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_antialias_agrees_with_pil(name: str, method: Image.Resampling) -> None:
    """To within the rounding to bytes, and PIL's clamp."""
    values = torch.randint(64, 192, (64, 64), dtype=torch.uint8)
    expected = torch.from_numpy(np.array(Image.fromarray(values.numpy()).resize((28, 28), method))).float()
    resized = F.interpolate(values[None, None].float(), (28, 28), align_corners=False, **RESIZES[f"{name}_antialias"])
    assert (resized[0, 0] - expected).abs().max() < 1.5
    plain = F.interpolate(values[None, None].float(), (28, 28), align_corners=False, **RESIZES[name])
    assert (plain[0, 0] - expected).abs().max() > 10


def test_resize_none_refuses_other_sizes(tmp_path: Path) -> None:
    encoder = siglip(tmp_path, resize="none")
    assert encoder(torch.rand(1, 3, 32, 32)).shape == (1, 16, 32)
    with pytest.raises(UserError, match="40 x 32 px, the encoder takes 32 x 32"):
        encoder(torch.rand(1, 3, 40, 32))


def test_input_size_must_hold_whole_patches(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="input_size: 30 must be a multiple of its patch 8"):
        siglip(tmp_path, input_size=30)
