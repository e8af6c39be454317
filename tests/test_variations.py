"""Where a variation starts: which pictures, how much noise, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_generator
from raekit.autoencoder.rae import RAE
from raekit.data.picture import read_square
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.variations import DEFAULT_STRENGTH, Start, start_from


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> RAE:
    return tiny_generator.latent_space(tmp_path_factory.mktemp("space") / "autoencoder")


def encoded(space: RAE, image: Image.Image) -> torch.Tensor:
    with torch.no_grad():
        return space.encode(to_float(read_square(image, space.output_size))[None])


def test_the_picture_is_noised_up_to_the_shifted_strength() -> None:
    """By hand: a = 3, strength 0.5 -> t = 1.5 / (1 + 2 * 0.5) = 0.75, z_t = 0.25 z + 0.75 eps."""
    z, eps = torch.randn(2, 3, 2, 2), torch.randn(3, 3, 2, 2)
    noised = Start(z, 0.5).noised([1, 0, 1], eps, 3.0)
    torch.testing.assert_close(noised, 0.25 * z[[1, 0, 1]] + 0.75 * eps)
    assert torch.equal(Start(z, 1.0).noised([0, 1, 1], eps, 3.0), eps)


def test_one_picture_for_all_prompts_or_one_for_each(space: RAE, tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (24, 16), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "red.png")
    for same in (red, str(tmp_path / "red.png"), tmp_path / "red.png", np.asarray(red), [red]):
        start = start_from(space, same, None, 2)
        assert start is not None and start.strength == DEFAULT_STRENGTH
        torch.testing.assert_close(start.latents, encoded(space, red).expand(2, -1, -1, -1))
    start = start_from(space, [red, blue], 0.3, 2)
    assert start is not None and start.strength == 0.3
    torch.testing.assert_close(start.latents, torch.cat([encoded(space, red), encoded(space, blue)]))
    stacked = start_from(space, torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)]), 0.3, 2)
    assert stacked is not None and not torch.equal(stacked.latents[0], stacked.latents[1])
    assert start_from(space, None, None, 2) is None


@pytest.mark.parametrize(
    ("image", "strength", "sentence"),
    [
        (None, 0.5, "strength: 0.5 says how far to leave an image, and none was given"),
        (Image.new("RGB", (8, 8)), 0.0, r"strength: 0.0 is not in \(0, 1\]"),
        (Image.new("RGB", (8, 8)), 1.5, r"strength: 1.5 is not in \(0, 1\]"),
        (Image.new("RGB", (8, 8)), float("nan"), r"strength: nan is not in \(0, 1\]"),
        ([Image.new("RGB", (8, 8))] * 3, 0.5, "image: 3 pictures for 2 prompts; give one, or one for each"),
        ("no/such.png", 0.5, "image: no/such.png: cannot be read"),
        (torch.full((3, 4, 4), float("nan")), 0.5, "image: image: holds NaN"),
        (7, 0.5, "image: int is no picture"),
    ],
)
def test_what_cannot_be_started_from_is_named(space: RAE, image: object, strength: float, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        start_from(space, image, strength, 2)
