"""PSNR in closed form."""

from __future__ import annotations

import torch

from raekit.metrics.reconstruction import psnr


def test_known_errors_have_known_psnr() -> None:
    target = torch.full((3, 3, 4, 4), 0.5)
    image = target + torch.tensor([0.1, 0.01, 0.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(psnr(image, target), torch.tensor([20.0, 40.0, 100.0]), atol=1e-3, rtol=0)


def test_what_lies_outside_the_range_is_cut_as_it_is_when_shown() -> None:
    white = torch.ones(1, 3, 4, 4)
    assert psnr(white + 5, white).item() == 100.0


def test_a_mean_does_not_depend_on_the_batch() -> None:
    image, target = torch.rand(6, 3, 4, 4), torch.rand(6, 3, 4, 4)
    assert torch.equal(psnr(image, target), torch.cat([psnr(image[:2], target[:2]), psnr(image[2:], target[2:])]))
