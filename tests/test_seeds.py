"""Seeds of images, and the noise that each stands for in every release."""

from __future__ import annotations

import pytest
import torch

from raekit.errors import UserError
from raekit.seeds import LARGEST_SEED, generators_of, image_seeds, noise


def test_one_seed_counts_on_and_a_list_is_taken_as_it_is() -> None:
    assert image_seeds(4, 7) == [7, 8, 9, 10]
    assert image_seeds(1, [5, 3]) == image_seeds(2, (5, 3)) == [5, 3]
    assert image_seeds(1, LARGEST_SEED - 1) == [LARGEST_SEED - 1]


@pytest.mark.parametrize(
    ("num", "seed", "sentence"),
    [
        (0, 0, "num: 0 images per prompt"),
        (1, -1, "seed: -1 is out of range; give a whole number in 0.."),
        (2, LARGEST_SEED - 1, "seed: .* is out of range"),
        (1, 1.5, "seed: 1.5 is out of range"),
        (1, [1, -2], "seed: -2 is out of range"),
        (3, [1, 2], "num: 3 images per prompt for 2 seeds"),
        (1, [], "seed: the list is empty"),
    ],
)
def test_a_seed_that_cannot_be_used_is_named(num: int, seed: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        image_seeds(num, seed)


def test_noise_is_a_function_of_the_seed_alone() -> None:
    """Pinned, so that a seed means the same picture in every release."""
    torch.manual_seed(123)
    first, other = noise(generators_of([0, 1]), (2, 2))
    expected = torch.tensor([[1.5409960746765137, -0.293428897857666], [-2.1787893772125244, 0.5684312582015991]])
    assert torch.equal(first, expected)
    assert torch.equal(noise(generators_of([0]), (2, 2))[0], first) and not torch.equal(other, first)


def test_a_generator_goes_on_where_it_was() -> None:
    generators = generators_of([3])
    first, second = noise(generators, (4,)), noise(generators, (4,))
    assert not torch.equal(first, second)
    again = generators_of([3])
    assert torch.equal(noise(again, (4,)), first) and torch.equal(noise(again, (4,)), second)
