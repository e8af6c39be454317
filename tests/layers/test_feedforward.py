"""Norms, SwiGLU and modulation against their formulas."""

import pytest
import torch
import torch.nn.functional as F

from raekit.layers.feedforward import GELUFeedForward, RMSNorm, SwiGLU, modulate, swiglu_width, token_norm


@pytest.mark.parametrize(
    ("width", "hidden"), [(384, 1024), (768, 2048), (1024, 2730), (1152, 3072), (2048, 5461), (4096, 10922)]
)
def test_swiglu_width_of_published_sizes(width: int, hidden: int) -> None:
    assert swiglu_width(width) == hidden


def test_rms_norm_takes_its_statistic_in_float32() -> None:
    norm = RMSNorm(4)
    x = torch.full((1, 4), 300.0).half()  # 300^2 overflows half precision
    torch.testing.assert_close(norm(x), torch.ones(1, 4))
    x = torch.randn(3, 4)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt())


def test_layer_norm_of_tokens_has_no_affine() -> None:
    assert not list(token_norm("layer", 8).parameters())


def test_swiglu_gates_its_second_half() -> None:
    layer, x = SwiGLU(4, 6), torch.randn(2, 3, 4)
    a, b = layer.w12(x)[..., :6], layer.w12(x)[..., 6:]
    torch.testing.assert_close(layer(x), layer.w3(a * torch.sigmoid(a) * b))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_feed_forward(approximate: str) -> None:
    layer, x = GELUFeedForward(4, 8, approximate), torch.randn(2, 3, 4)
    torch.testing.assert_close(layer(x), layer.fc2(F.gelu(layer.fc1(x), approximate=approximate)))


@pytest.mark.parametrize("num_tokens", [1, 3])
def test_modulate_per_sample_and_per_token(num_tokens: int) -> None:
    x, shift, scale = torch.randn(2, 3, 4), torch.randn(2, num_tokens, 4), torch.randn(2, num_tokens, 4)
    torch.testing.assert_close(modulate(x, shift, scale), x * (1 + scale) + shift)
