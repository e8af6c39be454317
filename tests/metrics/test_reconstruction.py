"""PSNR in closed form, SSIM against torchmetrics, gradient energy counted on paper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raekit.metrics.reconstruction import C1, gradient_energy, psnr, ssim

STORED_SSIM = [0.3510608971118927, 0.9888163805007935]
"""What torchmetrics 1.9.0 gives for :func:`pairs`."""


def pairs() -> tuple[Tensor, Tensor]:
    """Two pictures, 30 x 23 px, and one of them blurred into noise, the other with a little noise."""
    generator = torch.Generator().manual_seed(3)
    target = torch.rand(2, 3, 30, 23, generator=generator)
    noise = torch.rand(2, 3, 30, 23, generator=generator)
    return torch.lerp(target, noise, torch.tensor([0.7, 0.1]).view(2, 1, 1, 1)), target


def test_known_errors_have_known_psnr() -> None:
    target = torch.full((3, 3, 4, 4), 0.5)
    image = target + torch.tensor([0.1, 0.01, 0.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(psnr(image, target), torch.tensor([20.0, 40.0, 100.0]), atol=1e-3, rtol=0)


def test_what_lies_outside_the_range_is_cut_as_it_is_when_shown() -> None:
    white = torch.ones(1, 3, 8, 8)
    assert psnr(white + 5, white).item() == 100.0
    assert ssim(white + 5, white).item() == pytest.approx(1)


@pytest.mark.parametrize("metric", [psnr, ssim, lambda a, b: gradient_energy(a - b)])
def test_a_mean_does_not_depend_on_the_batch(metric: Callable[[Tensor, Tensor], Tensor]) -> None:
    image, target = torch.rand(6, 3, 8, 8), torch.rand(6, 3, 8, 8)
    parts = [metric(image[:2], target[:2]), metric(image[2:], target[2:])]
    torch.testing.assert_close(metric(image, target), torch.cat(parts), atol=1e-6, rtol=0)


def test_ssim_of_plain_pictures_is_its_luminance_term() -> None:
    grey, light = torch.full((1, 3, 12, 12), 0.4), torch.full((1, 3, 12, 12), 0.6)
    expected = (2 * 0.4 * 0.6 + C1) / (0.4**2 + 0.6**2 + C1)
    assert ssim(grey, light).item() == pytest.approx(expected, abs=1e-6)
    assert ssim(grey, grey).item() == pytest.approx(1)


def test_ssim_is_torchmetrics_ssim() -> None:
    image, target = pairs()
    assert ssim(image, target).tolist() == pytest.approx(STORED_SSIM, abs=1e-5)


@pytest.mark.slow
def test_the_stored_ssim_is_torchmetrics_ssim() -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    expected = image.structural_similarity_index_measure(*pairs(), data_range=1.0, reduction="none")
    assert expected.tolist() == pytest.approx(STORED_SSIM, abs=1e-6)


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(ValueError, match="5 x 6 px; ssim needs at least 6"):
        ssim(torch.zeros(1, 3, 5, 6), torch.zeros(1, 3, 5, 6))


def test_gradient_energy_counts_edges() -> None:
    """One black-and-white edge in a row of five pixels: a quarter of the neighbours across differ by 1, none down."""
    image = torch.zeros(3, 3, 4, 5)
    image[1, :, :, 2:] = 1
    image[2, :, 2:] = 1
    assert gradient_energy(image).tolist() == pytest.approx([0, 1 / 4, 1 / 3], abs=1e-6)
