"""Pieces on a ground: drawn ones come back, whatever the ground."""

from __future__ import annotations

import numpy as np
import pytest

from raekit.metrics.components import Piece, foreground_of, gap, ground_of, label, pieces_of


def ramp(size: int = 32) -> np.ndarray:
    """A ground that gets darker from left to right."""
    line = np.linspace(0.9, 0.7, size, dtype=np.float32)
    return np.repeat(np.repeat(line[None, :, None], size, 0), 3, 2)


def pieces(image: np.ndarray, contrast: float = 0.05) -> list[Piece]:
    return pieces_of(foreground_of(image, ground_of(image)[0], contrast))


def test_the_ground_is_seen_behind_what_reaches_the_border() -> None:
    image = ramp()
    image[5:20, :8] = 0.1
    ground, noise = ground_of(image)
    np.testing.assert_allclose(ground, ramp(), atol=1e-5)
    assert noise < 1e-5


def test_noise_is_that_of_the_ground() -> None:
    rough = ramp(64) + np.random.default_rng(0).uniform(-0.06, 0.06, (64, 64, 3)).astype(np.float32)
    assert 0.03 < ground_of(rough)[1] < 0.06


def test_pieces_are_the_drawn_ones_largest_first() -> None:
    image = ramp()
    image[2:8, 3:9] = 0.2
    image[12:28, 10:30] = 0.3
    image[30, 2] = 0.0  # a speck
    assert [piece.box for piece in pieces(image)] == [(10, 12, 30, 28), (3, 2, 9, 8)]
    assert [piece.area for piece in pieces(image)] == [320, 36]
    assert pieces(ramp()) == []


def test_two_that_touch_are_cut_at_the_waist() -> None:
    y, x = np.mgrid[0:32, 0:32]
    image = ramp()
    for centre in (8, 24):
        image[np.hypot(x - centre, y - 16) <= 8] = 0.1
    found = pieces(image)
    assert sorted(round(piece.box[0] + piece.box[2], -1) for piece in found) == [20, 50]
    image = ramp()
    image[8:24, 4:28] = 0.1
    assert len(pieces(image)) == 1


def test_components_join_at_corners_and_are_numbered_from_one() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    numbers, count = label(mask)
    assert count == 3
    assert (numbers > 0).tolist() == mask.tolist()
    assert numbers[0, 0] == numbers[1, 1] != numbers[0, 3]
    assert set(numbers[mask]) == {1, 2, 3}
    assert label(np.zeros((3, 3), bool))[1] == 0


def test_components_of_random_masks() -> None:
    """Against a flood fill."""
    for seed in range(5):
        mask = np.random.default_rng(seed).random((17, 23)) < 0.45
        numbers, count = label(mask)
        left, fills = set(zip(*map(list, np.nonzero(mask)), strict=True)), 0
        while left:
            reached, waiting = set(), [left.pop()]
            while waiting:
                y, x = waiting.pop()
                reached.add((y, x))
                near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= near
                waiting += near
            assert len({numbers[place] for place in reached}) == 1
            fills += 1
        assert count == fills


@pytest.mark.parametrize(
    ("other", "pixels"), [((6, 0, 8, 4), 2), ((6, 9, 8, 12), 5), ((2, 2, 9, 9), 0), ((4, 0, 8, 4), 0)]
)
def test_gaps_are_between_boxes(other: tuple[int, int, int, int], pixels: int) -> None:
    assert gap((0, 0, 4, 4), other) == gap(other, (0, 0, 4, 4)) == pixels


def test_pieces_can_be_joined() -> None:
    masks = np.zeros((2, 6, 6), bool)
    masks[0, 1, 1] = masks[1, 4, 2:5] = True
    both = Piece.of(masks[0]).with_(Piece.of(masks[1]))
    assert (both.box, both.area) == ((1, 1, 5, 5), 4)
