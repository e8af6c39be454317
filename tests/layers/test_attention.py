"""Attention equals softmax written out; a rotation keeps lengths and depends on position differences only."""

import pytest
import torch

from raekit.errors import UserError
from raekit.layers.attention import Attention, rotate
from raekit.layers.embeddings import rope_2d


def test_matches_softmax_written_out() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8, heads=2), torch.randn(3, 5, 8)
    q, k, v = (part.view(3, 5, 2, 4).transpose(1, 2) for part in layer.qkv(x).chunk(3, dim=-1))
    weights = (q @ k.transpose(2, 3) / 4**0.5).softmax(-1)
    expected = layer.proj((weights @ v).transpose(1, 2).reshape(3, 5, 8))
    torch.testing.assert_close(layer(x), expected)


def test_rotation_keeps_length_and_relative_angle() -> None:
    cos, sin = rope_2d(8, (1, 6))
    q, k = torch.randn(8).expand(6, 8), torch.randn(8).expand(6, 8)
    q_turned, k_turned = rotate(q, cos, sin), rotate(k, cos, sin)
    torch.testing.assert_close(q_turned.norm(dim=-1), q.norm(dim=-1))
    scores = q_turned @ k_turned.T
    torch.testing.assert_close(scores.diagonal(1), scores[0, 1].expand(5), rtol=1e-5, atol=1e-5)


def test_compiled_form_of_the_rotation_equals_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cos, sin = rope_2d(16, 4)
    x = torch.randn(2, 3, 16, 16)
    eager = rotate(x, cos, sin)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(x, cos, sin), eager)


@pytest.mark.parametrize("qk_norm", ["rms", "layer"])
def test_qk_norm_makes_scores_independent_of_input_scale(qk_norm: str) -> None:
    layer = Attention(16, heads=2, qk_norm=qk_norm, bias=False)
    x = torch.randn(1, 4, 16)
    torch.testing.assert_close(layer(x * 100) / 100, layer(x), rtol=1e-3, atol=1e-3)


def test_half_precision_stays_half() -> None:
    layer = Attention(8, heads=1, qk_norm="rms").bfloat16()
    assert layer(torch.randn(1, 4, 8).bfloat16(), rope_2d(8, 2)).dtype == torch.bfloat16


def test_heads_must_divide_width() -> None:
    with pytest.raises(UserError, match="heads: 3 does not divide width 8"):
        Attention(8, heads=3)


def test_masked_tokens_are_not_attended_to() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8, heads=2), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    out = layer(x, mask=mask)
    torch.testing.assert_close(out[:1, :3], layer(x[:1, :3]))
    torch.testing.assert_close(out[1:], layer(x[1:]))
