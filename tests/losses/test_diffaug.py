"""DiffAug, one operation at a time, at draws whose outcome is known; sequences are in ``parity/cases_losses.py``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raekit.losses.diffaug import GREY, DiffAug

NEUTRAL = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
"""Every operation acts and changes nothing, but for the cut-out, which lies in the middle."""


def augment(image: Tensor, changes: dict[int, float], **settings: object) -> Tensor:
    draws = NEUTRAL.clone()
    for place, value in changes.items():
        draws[place] = value
    return DiffAug(DiffAug.Config(**settings))(image, draws.expand(len(image), -1))


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_neutral_draws_change_nothing(image: Tensor) -> None:
    torch.testing.assert_close(augment(image, {}), image)


def test_the_smallest_draw_moves_the_picture_as_far_as_it_goes(image: Tensor) -> None:
    """An eighth of 16 pixels: two rows down and two columns to the right, grey in their place."""
    moved = augment(image, {3: 0.0, 4: 0.0}, has_colour=False)
    torch.testing.assert_close(moved[:, :, 2:, 2:], image[:, :, :-2, :-2])
    assert (moved[:, :, :2] == GREY).all() and (moved[:, :, :, :2] == GREY).all()
    back = augment(image, {3: 0.999, 4: 0.5}, has_colour=False)
    torch.testing.assert_close(back[:, :, :-2], image[:, :, 2:])
    assert (back[:, :, -2:] == GREY).all()


def test_every_shift_is_as_likely_as_the_others() -> None:
    ramp = torch.arange(16.0).view(1, 1, 16, 1).expand(1, 3, 16, 16)
    first = [augment(ramp, {3: (k + 0.5) / 5}, has_colour=False)[0, 0, 8, 0].item() for k in range(5)]
    assert first == [6, 7, 8, 9, 10]


def test_brightness_is_added(image: Tensor) -> None:
    torch.testing.assert_close(augment(image, {5: 0.9}), image + 0.2)


def test_without_saturation_all_channels_are_equal(image: Tensor) -> None:
    torch.testing.assert_close(augment(image, {6: 0.0}), image.mean(dim=1, keepdim=True).expand_as(image))


def test_contrast_scales_about_the_mean(image: Tensor) -> None:
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(augment(image, {7: 0.0}), mean + (image - mean) / 2)


def test_the_cut_out_is_a_grey_square(image: Tensor) -> None:
    cut = augment(image, {}, cutout=0.25)
    expected = image.clone()
    expected[:, :, 6:10, 6:10] = GREY
    torch.testing.assert_close(cut, expected)
    corner = augment(image, {8: 0.0, 9: 0.0}, cutout=0.25)
    torch.testing.assert_close(corner[:, :, 2:, 2:], image[:, :, 2:, 2:])
    assert (corner[:, :, :2, :2] == GREY).all()


def test_a_sample_does_not_depend_on_its_neighbours(image: Tensor) -> None:
    draws = torch.rand(2, DiffAug.num_draws, generator=torch.Generator().manual_seed(1))
    aug = DiffAug(DiffAug.Config(prob=0.5, cutout=0.3))
    torch.testing.assert_close(aug(image, draws)[1:], aug(image[1:], draws[1:]), rtol=0, atol=1e-7)


def test_each_operation_acts_as_often_as_told(image: Tensor) -> None:
    draws = NEUTRAL.repeat(2, 1)
    draws[:, 3:] = 0.0
    draws[0, :3], draws[1, :3] = 0.69, 0.71
    result = DiffAug(DiffAug.Config(prob=0.7, cutout=0.5))(image, draws)
    assert torch.equal(result[1], image[1]) and not torch.equal(result[0], image[0])
    never = DiffAug(DiffAug.Config(prob=0.0, cutout=0.5))
    assert torch.equal(never(image, torch.zeros(2, DiffAug.num_draws)), image)


def test_the_gradient_of_a_shift_is_the_shift_back(image: Tensor) -> None:
    image.requires_grad_()
    augment(image, {3: 0.0, 4: 0.0}, has_colour=False).sum().backward()
    assert image.grad is not None
    assert (
        (image.grad[:, :, :-2, :-2] == 1).all()
        and not image.grad[:, :, -2:].any()
        and not image.grad[:, :, :, -2:].any()
    )


def test_the_warm_up_blurs_until_it_ends(image: Tensor) -> None:
    aug, draws = DiffAug(DiffAug.Config(prob=0.0)), torch.rand(2, DiffAug.num_draws)
    flat = torch.full_like(image, 0.3)
    torch.testing.assert_close(aug(flat, draws, blur=0.5), flat)
    deviations = [aug(image, draws, blur=blur).std().item() for blur in (0.0, 0.2, 0.5)]
    assert deviations == sorted(deviations, reverse=True) and deviations[0] == pytest.approx(
        image.std().item(), rel=1e-5
    )
