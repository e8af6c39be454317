from __future__ import annotations

import numpy as np
import pytest

from raekit.data.palette import PALETTE, luminance
from raekit.data.text_grounds import GROUNDS, companions, draw_ground

WEIGHTS = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("gap", [60.0, 85.0])
def test_companions_lie_on_the_same_side_of_the_letters(gap: float) -> None:
    for ink in PALETTE:
        for ground in PALETTE:
            here = luminance(PALETTE[ink])
            is_darker = luminance(PALETTE[ground]) < here
            for name in companions(ink, ground, gap):
                there = luminance(PALETTE[name])
                assert abs(there - here) >= gap and (there < here) == is_darker and name != ground
    assert "black" not in companions("grey", "white", gap)


@pytest.mark.parametrize("kind", GROUNDS)
def test_every_pixel_is_a_mixture_of_the_colours(kind) -> None:
    colours = ("yellow", "white", "orange")
    image = draw_ground(kind, colours, 48, np.random.default_rng(3))
    assert image.shape == (48, 48, 3) and image.dtype == np.uint8
    values = sorted(luminance(PALETTE[name]) for name in colours)
    light = image @ WEIGHTS
    assert light.min() >= values[0] - 1 and light.max() <= values[-1] + 1
    assert (len(np.unique(image.reshape(-1, 3), axis=0)) > 1) == (kind != "plain")


@pytest.mark.parametrize("kind", ["gradient", "picture"])
def test_the_whole_range_is_used(kind) -> None:
    image = draw_ground(kind, ("black", "white"), 64, np.random.default_rng(0))
    assert image.min() == 18 and image.max() == 255
    assert (draw_ground(kind, ("red",), 8, np.random.default_rng(0)) == PALETTE["red"]).all()
