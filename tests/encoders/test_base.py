"""Resize, pixel statistics, the final norm, the choice of layers and the precision, each by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import tiny_encoders
from raekit.encoders.base import RESIZES, RepresentationEncoder
from raekit.errors import UserError


def siglip(directory: Path, **options: Any) -> RepresentationEncoder:
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
    with pytest.raises(UserError, match="input_size: 30 must be a multiple of its patch 8; give 24 or 32"):
        siglip(tmp_path, input_size=30)
    with pytest.raises(UserError, match="input_size: 5 must be a multiple of its patch 8; give 8 or 16"):
        siglip(tmp_path, input_size=5)


def test_unknown_layers_name_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"layers: -3 is none of the encoder's 2 blocks; give numbers from 1 to 2"):
        siglip(tmp_path, layers="last_3")
    with pytest.raises(UserError, match="layers: 3 is none of"):
        siglip(tmp_path).taps(torch.rand(1, 3, 32, 32), [1, 3])


def test_deepest_layer_chosen_is_the_last_one_computed(tmp_path: Path) -> None:
    encoder = siglip(tmp_path, depth=3, layers=[2])
    encoder.blocks[2].register_forward_hook(lambda *_: pytest.fail("block 3 is not needed"))
    (tap,) = encoder.taps(torch.ones(1, 3, 32, 32), [2])
    assert torch.equal(encoder(torch.ones(1, 3, 32, 32)), encoder.normalise(tap))


def test_bf16_weights_take_half_the_memory(tmp_path: Path) -> None:
    encoder = siglip(tmp_path, precision="bf16")
    dtypes = {name.rsplit(".", 2)[-2]: parameter.dtype for name, parameter in encoder.named_parameters()}
    assert dtypes["fc1"] == dtypes["q_proj"] == dtypes["patch_embedding"] == torch.bfloat16
    assert dtypes["layer_norm1"] == dtypes["final_norm"] == torch.float32


def test_each_block_is_compiled_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Callable[..., Tensor]] = []

    def compile(function: Callable[..., Tensor], **_: object) -> Callable[..., Tensor]:
        compiled.append(function)
        return function

    image = torch.rand(1, 3, 32, 32)
    expected = siglip(tmp_path)(image)
    assert not compiled
    monkeypatch.setattr(torch, "compile", compile)
    encoder = siglip(tmp_path, compile=True)
    assert len(compiled) == encoder.depth
    assert torch.equal(encoder(image), expected)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_tokens(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(siglip(tmp_path, compile=True)(image), siglip(tmp_path)(image))
    rounded, compiled = (siglip(tmp_path, precision="bf16", compile=c)(image) for c in (False, True))
    torch.testing.assert_close(compiled, rounded, atol=0.05, rtol=0)
