"""Correlation with drawings: exact on what was drawn, indifferent to contrast, honest about colour."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

import tiny_sprites
from raekit.data.palette import GENEVAL_COLOURS, PALETTE
from raekit.data.scenes import tint
from raekit.metrics.templates import SIDE, TINTS, Templates, nearest_colour

GROUND = np.array([0.9, 0.8, 0.7], np.float32)


def cut(name: str) -> np.ndarray:
    picture = tiny_sprites.sprite(name)
    return np.asarray(picture.crop(picture.getbbox()))


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates((name, cut(name)) for name in tiny_sprites.SHAPES)


def crop(name: str, colour: str | None = None) -> tuple[np.ndarray, float]:
    """A shape on the ground, the ground subtracted, and the shape of its box."""
    sprite = cut(name)
    painted = sprite[..., :3] if colour is None else tint(sprite, PALETTE[colour])
    alpha = sprite[..., 3:] / np.float32(255)
    difference = alpha * (painted / np.float32(255) - GROUND)
    channels = [Image.fromarray(np.ascontiguousarray(difference[..., c])) for c in range(3)]
    small = [np.asarray(channel.resize((SIDE, SIDE), Image.Resampling.BOX)) for channel in channels]
    return np.stack(small, -1), math.log(sprite.shape[1] / sprite.shape[0])


def test_every_drawing_is_itself_in_every_colour(templates: Templates) -> None:
    asked = [(name, colour) for name in tiny_sprites.SHAPES for colour in TINTS]
    crops, shapes = zip(*(crop(*each) for each in asked), strict=True)
    matches = templates.match(np.stack(crops), np.tile(GROUND, (len(asked), 1)), shapes)
    for (name, colour), match in zip(asked, matches, strict=True):
        assert match.kind == name
        assert match.score == pytest.approx(1, abs=0.01)
        assert colour in (None, match.colour)


def test_correlation_is_that_of_the_formula(templates: Templates) -> None:
    crops = np.random.default_rng(0).normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    grounds = np.random.default_rng(1).random((3, 3)).astype(np.float32)
    scores = templates.correlate(crops, grounds)
    assert scores.shape == (3, len(tiny_sprites.SHAPES), len(TINTS))
    sprite = Image.fromarray(cut("banana")).convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BOX)
    small = np.asarray(sprite.convert("RGBA")) / 255
    left = small[..., 3:] * (small[..., :3] - grounds[2])
    expected = (left * crops[2]).sum() / np.linalg.norm(left) / np.linalg.norm(crops[2])
    assert scores[2, templates.kinds.index("banana"), 0] == pytest.approx(expected, abs=1e-4)


def test_a_washed_out_picture_correlates_as_well(templates: Templates) -> None:
    image, shape = crop("chair")
    strong, weak = templates.match(np.stack([image, image * 0.3]), np.tile(GROUND, (2, 1)), [shape, shape])
    assert weak.score == pytest.approx(strong.score, abs=1e-5)


def test_another_shape_of_box_is_another_thing(templates: Templates) -> None:
    image, shape = crop("bus")
    (match,) = templates.match(image[None], GROUND[None], [shape - 1.0])
    assert match.kind != "bus"


@pytest.mark.parametrize("colour", GENEVAL_COLOURS)
def test_shades_keep_their_colour(colour: str) -> None:
    shades = np.array([PALETTE[colour]]) / 255 * np.array([[0.7], [0.9], [1.0]])
    assert nearest_colour(shades.astype(np.float32)) == colour
