"""Spot values of the tables, and the patch embedding against a convolution."""

import math

import pytest
import torch
import torch.nn.functional as F

from raekit.errors import UserError
from raekit.layers.embeddings import (
    GaussianFourierTime,
    PatchEmbed,
    Rope2d,
    rope_2d,
    sincos_2d,
    time_frequencies,
    unpatchify,
)


def test_sincos_puts_the_column_first() -> None:
    table = sincos_2d(8, 16)
    assert table.shape == (256, 8)
    assert table[1, 0].item() == pytest.approx(math.sin(1))  # (row 0, column 1): column channels move
    assert table[1, 4].item() == 0
    assert table[16, 4].item() == pytest.approx(math.sin(1))  # (row 1, column 0): row channels move
    assert table[16, 0].item() == 0


def test_sincos_class_row_is_zero() -> None:
    table = sincos_2d(8, (2, 3), cls_token=True)
    assert table.shape == (7, 8)
    assert not table[0].any()
    torch.testing.assert_close(table[1:], sincos_2d(8, (2, 3)))


def test_rope_puts_the_row_first_and_repeats_each_angle() -> None:
    cos, sin = rope_2d(8, 16)
    torch.testing.assert_close(sin[17, :4], torch.tensor([math.sin(1), math.sin(1), math.sin(0.01), math.sin(0.01)]))
    assert not sin[1, :4].any()  # row 0
    assert not sin[16, 4:].any()  # column 0
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(256, 8))


@pytest.mark.parametrize("build", [lambda: sincos_2d(6, 2), lambda: rope_2d(6, 2)])
def test_tables_need_a_multiple_of_4(build: object) -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        build()


def test_time_frequencies_are_the_published_draw() -> None:
    w = time_frequencies()
    published = [0.164998, -0.428739, -0.024267, 0.149424, -0.070685, 0.216612, -1.089931, 0.895714]
    torch.testing.assert_close(w[:8], torch.tensor(published), rtol=0, atol=1e-5)
    assert w.sum().item() == pytest.approx(-12.888590, abs=1e-3)
    assert w.square().sum().item() == pytest.approx(271.603360, abs=1e-3)


def test_time_embedding_formula_and_precision() -> None:
    embed, t = GaussianFourierTime(6), torch.tensor([0.0, 0.3, 1.0])
    phase = 2 * math.pi * t[:, None] * embed.frequencies
    expected = embed.out(F.silu(embed.hidden(torch.cat((phase.sin(), phase.cos()), dim=1))))
    torch.testing.assert_close(embed(t), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert embed(t).dtype == torch.float32


@pytest.mark.parametrize("patch_size", [1, 2])
def test_patch_embed_is_a_convolution(patch_size: int) -> None:
    embed, latent = PatchEmbed(3, 8, patch_size), torch.randn(2, 3, 4, 6)
    kernel = embed.proj.weight.unflatten(1, (3, patch_size, patch_size))
    expected = F.conv2d(latent, kernel, embed.proj.bias, stride=patch_size).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(latent), expected)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_unpatchify_undoes_a_patch_cut(patch_size: int) -> None:
    latent = torch.randn(2, 3, 4, 6)
    p = patch_size
    grid = (4 // p, 6 // p)
    tokens = torch.stack(
        [
            latent[:, :, r * p : r * p + p, c * p : c * p + p].permute(0, 2, 3, 1).flatten(1)
            for r in range(grid[0])
            for c in range(grid[1])
        ],
        dim=1,
    )
    assert torch.equal(unpatchify(tokens, grid, p), latent)


def test_tables_are_real_on_the_meta_device() -> None:
    with torch.device("meta"):
        rope, embed = Rope2d(8, 2), GaussianFourierTime(4)
    assert rope.cos.device.type == "cpu"
    torch.testing.assert_close(embed.frequencies, time_frequencies())
    rope.to_empty(device="cpu").reset()
    torch.testing.assert_close(rope.cos, rope_2d(8, 2)[0])
