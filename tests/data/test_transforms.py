from __future__ import annotations

import numpy as np
import pytest
import torch

from raekit.data import transforms


def ramp(height: int, width: int) -> np.ndarray:
    """Grey value rises from left to right."""
    line = np.linspace(0, 255, width).astype(np.uint8)
    return np.broadcast_to(line[None, :, None], (height, width, 3)).copy()


def test_uint8_and_float_are_inverse() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    image = transforms.to_float(values)
    assert image.min() == 0
    assert image.max() == 1
    assert torch.equal(transforms.to_uint8(image), values)
    assert transforms.to_uint8(torch.tensor([-0.5, 2.0])).tolist() == [0, 255]


def test_compose_is_exact_at_the_ends_and_mixes_between() -> None:
    image = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 100, 100, 128]]], np.uint8)
    assert transforms.compose(image, (200, 0, 100))[0].tolist() == [[10, 20, 30], [200, 0, 100], [150, 50, 100]]


def test_compose_leaves_opaque_pictures_alone() -> None:
    image = ramp(4, 4)
    assert transforms.compose(image, (1, 2, 3)) is image


@pytest.mark.parametrize("extent", [(40, 100), (100, 40), (33, 33), (200, 70), (16, 9)])
def test_centre_crop_is_square_and_centred(extent: tuple[int, int]) -> None:
    crop = transforms.centre_crop(ramp(*extent), 16)
    assert crop.shape == (16, 16, 3)
    assert crop[8, 7:9].mean() == pytest.approx(127.5, abs=6)


def test_centre_crop_of_a_square_keeps_the_whole() -> None:
    crop = transforms.centre_crop(ramp(64, 64), 16)
    assert crop[0, 0, 0] < 12
    assert crop[0, -1, 0] > 243


def test_random_crop_is_seeded_and_varies() -> None:
    image = ramp(40, 80)
    crops = [transforms.random_crop(image, 16, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert crops[0].shape == (16, 16, 3)
    assert np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])


@pytest.mark.parametrize("extent", [(60, 90), (500, 375), (20, 300)])
def test_zoomed_crop_covers_two_thirds_of_the_short_side(extent: tuple[int, int]) -> None:
    crops = [transforms.to_square(ramp(*extent), 32, "zoomed", np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert crops[0].shape == (32, 32, 3) and np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])
    rise = float(crops[0][0, -1, 0]) - float(crops[0][0, 0, 0])
    assert rise == pytest.approx(255 * 2 / 3 * min(extent) / extent[1], abs=12)


def test_random_crop_covers_at_least_the_share_asked_for() -> None:
    for seed in range(20):
        crop = transforms.random_crop(ramp(64, 64), 32, np.random.default_rng(seed), smallest=0.8)
        assert float(crop[0, -1, 0]) - float(crop[0, 0, 0]) >= 0.8 * 255 - 12


def test_stretch_keeps_the_whole_picture() -> None:
    square = transforms.to_square(ramp(20, 90), 16, "stretch", np.random.default_rng(0))
    assert square.shape == (16, 16, 3)
    assert square[0, 0, 0] < 20
    assert square[0, -1, 0] > 235


def test_mirror_and_layout() -> None:
    image = ramp(2, 5)
    assert np.array_equal(transforms.mirror(image), image[:, ::-1])
    assert transforms.to_chw(image).shape == (3, 2, 5)
    assert transforms.to_chw(transforms.mirror(image)).flags.c_contiguous


def test_jitter_by_nothing_changes_nothing() -> None:
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(transforms.jitter(image, torch.randn(2, 3), 0.0), image)
    assert torch.allclose(transforms.jitter(image, torch.zeros(2, 3), 0.3), image, atol=1e-6)


def test_jitter_moves_each_picture_by_its_own_draw() -> None:
    """A large draw shifts by the full amount: a quarter of 16 columns is 4."""
    image = torch.rand(1, 3, 16, 16).repeat(2, 1, 1, 1)
    moved = transforms.jitter(image, torch.tensor([[20.0, 0.0, 0.0], [0.0, -20.0, 0.0]]), 0.25)
    assert torch.allclose(moved[0, :, :, :12], image[0, :, :, 4:], atol=1e-5)
    assert torch.allclose(moved[1, :, 4:], image[1, :, :12], atol=1e-5)


def test_jitter_is_exact_under_autocast() -> None:
    image, draws = torch.rand(2, 3, 224, 224), torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        moved = transforms.jitter(image, draws, 0.1)
    assert torch.equal(moved, transforms.jitter(image, draws, 0.1))


def test_jitter_zooms_in_for_a_positive_draw() -> None:
    line = torch.linspace(0, 1, 17).expand(1, 3, 17, 17)
    closer = transforms.jitter(line, torch.tensor([[0.0, 0.0, 20.0]]), 0.5)
    assert closer[0, 0, 0, 8] == pytest.approx(0.5, abs=1e-5)
    assert closer[0, 0, 0, 0] > 0.1


def test_truncation_goes_down_where_rounding_goes_to_the_nearest() -> None:
    image = torch.tensor([-0.5, 0.0, 0.999 / 255, 1.6 / 255, 254.9 / 255, 1.0, 2.0])
    assert transforms.to_uint8_truncated(image).tolist() == [0, 0, 0, 1, 254, 255, 255]
    assert transforms.to_uint8(image).tolist() == [0, 0, 1, 2, 255, 255, 255]
