"""Layout, statistics and noise of the latent, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from raekit.autoencoder.latent import (
    LatentStatistics,
    StreamingStatistics,
    add_noise,
    noise_sigma,
    resize_tokens,
    to_grid,
    to_tokens,
)
from raekit.errors import UserError


def test_grid_is_raster_order() -> None:
    tokens = torch.arange(9.0).view(1, 9, 1)
    assert to_grid(tokens)[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert torch.equal(to_tokens(to_grid(tokens)), tokens)


def test_patches_of_the_grid_are_ordered_as_im2col() -> None:
    latent = torch.randn(2, 3, 6, 6)
    tokens = to_tokens(latent, patch_size=2)
    assert torch.equal(tokens, torch.nn.functional.unfold(latent, 2, stride=2).transpose(1, 2))
    assert torch.equal(to_grid(tokens, patch_size=2), latent)


def test_tokens_must_form_a_square() -> None:
    with pytest.raises(UserError, match="17 do not form a square"):
        to_grid(torch.zeros(1, 17, 4))


def test_resize_keeps_a_linear_ramp() -> None:
    """Bilinear with half-pixel centres: a ramp stays a ramp away from the border."""
    rows = (torch.arange(4.0) + 0.5).view(4, 1).expand(4, 4)
    resized = to_grid(resize_tokens(to_tokens(rows[None, None]), 8))[0, 0]
    expected = ((torch.arange(8.0) + 0.5) / 2).view(8, 1).expand(8, 8)
    torch.testing.assert_close(resized[1:-1], expected[1:-1])


@pytest.fixture
def latents() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale, offset = torch.rand(5, 3, 3, generator=generator) + 0.1, 20 * torch.randn(5, 3, 3, generator=generator)
    return torch.randn(64, 5, 3, 3, generator=generator) * scale + offset


def stream(latents: torch.Tensor, sizes: list[int]) -> StreamingStatistics:
    statistics = StreamingStatistics()
    for batch in latents.split(sizes):
        statistics.update(batch)
    return statistics


def test_streaming_equals_the_whole(latents: torch.Tensor) -> None:
    exact = latents.double()
    found = stream(latents, [10, 1, 33, 20]).finish()
    torch.testing.assert_close(found.mean, exact.mean(0).float())
    torch.testing.assert_close(found.var, exact.var(0, correction=0).float())
    pooled = stream(latents, [64]).finish("per_channel")
    assert pooled.mean.shape == (5, 1, 1) and pooled.form == "per_channel"
    torch.testing.assert_close(pooled.var.flatten(), exact.var((0, 2, 3), correction=0).float())


def test_streaming_depends_on_neither_batches_nor_order(latents: torch.Tensor) -> None:
    whole, halves = stream(latents, [64]), stream(latents, [32, 32])
    singles = stream(latents.flip(0), [1] * 64)
    merged = stream(latents[40:], [24])
    merged.merge(StreamingStatistics())
    merged.merge(stream(latents[:40], [7] * 5 + [5]))
    for other in (halves, singles, merged):
        assert other.count == whole.count
        torch.testing.assert_close(other.mean, whole.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(other.squares, whole.squares, rtol=1e-12, atol=0)


def test_no_latents_no_statistics() -> None:
    with pytest.raises(UserError, match="at least one image"):
        StreamingStatistics().finish()


def test_normalised_latents_are_standard(latents: torch.Tensor) -> None:
    statistics = stream(latents, [64]).finish(eps=0.0)
    normalised = statistics.normalise(latents)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(5, 3, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.var(0, correction=0), torch.ones(5, 3, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(statistics.denormalise(normalised), latents)


def test_eps_is_inside_the_root() -> None:
    statistics = LatentStatistics(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    torch.testing.assert_close(statistics.normalise(torch.ones(1, 1, 1, 1)).item(), 1 / math.sqrt(1e-5))


def test_identity_changes_nothing(latents: torch.Tensor) -> None:
    identity = LatentStatistics.identity(5)
    assert torch.equal(identity.normalise(latents), latents)
    assert torch.equal(identity.denormalise(latents), latents)


def test_statistics_need_a_latent_shape() -> None:
    with pytest.raises(UserError, match=r"mean \[4\]"):
        LatentStatistics(torch.zeros(4), torch.ones(4))


def test_half_precision_latents_are_normalised_in_float32(latents: torch.Tensor) -> None:
    statistics = stream(latents, [64]).finish()
    assert statistics.normalise(latents.bfloat16()).dtype == torch.float32


def test_noise_laws() -> None:
    uniform, normal = torch.rand(100_000), torch.randn(100_000)
    code, paper = noise_sigma("uniform", 0.8, uniform), noise_sigma("half_normal", 0.8, normal)
    assert code.max() <= 0.8 and code.mean().item() == pytest.approx(0.4, abs=0.01)
    assert paper.min() >= 0 and paper.square().mean().item() == pytest.approx(0.64, abs=0.02)
    assert not noise_sigma("half_normal", 0.0, normal).any()


def test_noise_has_one_level_a_sample() -> None:
    sigma, eps = torch.tensor([0.0, 0.5]), torch.randn(2, 4, 3)
    noised = add_noise(torch.ones(2, 4, 3), sigma, eps)
    assert torch.equal(noised[0], torch.ones(4, 3))
    assert torch.equal(noised[1], 1 + 0.5 * eps[1])
