"""Sheets of pictures: where each lands, what captions do, and how values become bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raekit.image_grid import CAPTION_HEIGHT, GAP, comparison_sheet, difference, image_grid, to_arrays


def colours(count: int, size: int = 8) -> torch.Tensor:
    """``count`` plain pictures, the i-th of grey level i/10."""
    return (torch.arange(count) / 10).view(-1, 1, 1, 1).expand(-1, 3, size, size)


def test_pictures_go_row_by_row() -> None:
    sheet = np.asarray(image_grid(colours(5), columns=3))
    assert sheet.shape == (GAP + 2 * (8 + GAP), GAP + 3 * (8 + GAP), 3)
    for index in range(5):
        top, left = GAP + index // 3 * (8 + GAP), GAP + index % 3 * (8 + GAP)
        assert (sheet[top : top + 8, left : left + 8] == round(index * 25.5)).all()
    assert (sheet[-8:, -8:] == 255).all()
    assert (sheet[:GAP] == 255).all()


def test_fewer_pictures_than_columns_make_a_narrow_sheet() -> None:
    assert image_grid(colours(2), columns=8).width == GAP + 2 * (8 + GAP)


def test_enlarging_repeats_pixels() -> None:
    picture = torch.rand(1, 3, 4, 6)
    sheet = np.asarray(image_grid(picture, columns=1, scale=3))[GAP:-GAP, GAP:-GAP]
    assert (sheet == to_arrays(picture)[0].repeat(3, 0).repeat(3, 1)).all()


def test_a_caption_stands_below_its_picture_and_within_its_width() -> None:
    sheet = np.asarray(image_grid(colours(3, 40), columns=3, captions=["", "word " * 30, ""]))
    assert sheet.shape[0] == GAP + 40 + GAP + CAPTION_HEIGHT
    is_inked = (sheet[GAP + 40 :] < 128).any(axis=(0, 2))
    assert is_inked[GAP + 40 + GAP : GAP + 2 * 40 + GAP].any()
    assert not is_inked[: 40 + 2 * GAP].any() and not is_inked[2 * (40 + GAP) + GAP :].any()


def test_a_shared_caption_runs_across_its_pictures() -> None:
    long = "a caption too long for one picture"
    alone = image_grid(colours(4, 40), 2, [long, "x", "y", "z"])
    across = image_grid(colours(4, 40), 2, [long, long, "y", "z"])
    first_row = slice(GAP + 40, GAP + 40 + CAPTION_HEIGHT)
    right = slice(GAP + 40 + GAP + 12, None)
    assert not (np.asarray(alone)[first_row, right] < 128).any()
    assert (np.asarray(across)[first_row, right] < 128).any()


def test_values_are_clamped_and_rounded_and_bytes_are_kept() -> None:
    values = torch.tensor([-0.5, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0])
    assert to_arrays(values.view(-1, 1, 1, 1).expand(-1, 3, 1, 1))[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 255, 255]
    exact = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(-1, 3, 1, 1)
    assert to_arrays(exact)[:, 0, 0, 2].tolist() == list(range(256))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        image_grid(colours(0), columns=2)
    with pytest.raises(ValueError, match="at least one"):
        image_grid(colours(2), columns=0)
    with pytest.raises(ValueError, match="captions: 1 for 2"):
        image_grid(colours(2), columns=2, captions=["one"])


def test_the_difference_is_grey_where_pictures_agree_and_signed_elsewhere() -> None:
    target = torch.full((1, 3, 2, 2), 0.5)
    image = target + torch.tensor([0.0, 0.1, -0.1, 9.0]).view(1, 1, 2, 2)
    shown = difference(image, target)
    torch.testing.assert_close(shown[0, 0], torch.tensor([[0.5, 0.7], [0.3, 1.0]]))
    assert torch.equal(difference(target, target), target)


def test_a_comparison_has_a_row_of_three_per_picture() -> None:
    images = colours(2)
    sheet = np.asarray(comparison_sheet(images, images.flip(0), captions=["one", "two"]))
    assert sheet.shape[1] == GAP + 3 * (8 + GAP)
    second = sheet[GAP + 8 + GAP + CAPTION_HEIGHT]
    original, redrawn, error = (second[GAP + column * (8 + GAP)].tolist() for column in range(3))
    assert (original, redrawn, error) == ([26] * 3, [0] * 3, [round((0.5 - 2 * 0.1) * 255)] * 3)
