from __future__ import annotations

import numpy as np
import pytest

from raekit.data.palette import PALETTE
from raekit.data.text_drawing import Colours, draw, perspective
from raekit.data.text_layouts import KINDS, Page, plan

WORDS = {"line": ["Quick"], "paragraph": ["Quick", "jigsaw", "puzzle"], "poster": ["Quick", "jigsaw", "puzzle"],
         "tilted": ["Quick"], "sign": ["Quick", "jigsaw"]}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_letters_lie_inside_their_boxes_and_show_their_colour(kind) -> None:
    for seed in range(8):
        generator = np.random.default_rng(seed)
        layout = plan(kind, WORDS[kind], Page(96, None, generator))
        under = "yellow" if kind == "sign" else "white"
        colours = Colours(("black",) * len(layout.blocks), under, "plain", ("white",))
        image, boxes = draw(layout, colours, None, 96, generator)
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        assert len(boxes) == len(layout.blocks)
        dark = (image.astype(int) @ [1, 1, 1]) < 400
        outside = dark.copy()
        for left, top, right, bottom in boxes:
            assert dark[top:bottom, left:right].sum() > 15
            outside[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
        if kind != "sign":  # a sign may have a rim in the colour of its letters
            assert not outside.any()
        elif layout.corners is None:
            assert (image == PALETTE["yellow"]).all(axis=2).sum() > 100


def test_each_block_has_its_own_colour() -> None:
    layout = plan("poster", ["one", "two"], Page(96, None, np.random.default_rng(0)))
    image, _ = draw(layout, Colours(("black", "red"), "white", "plain", ("white",)), None, 96, np.random.default_rng(0))
    present = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    assert {PALETTE["black"], PALETTE["red"], PALETTE["white"]} <= present


def test_a_perspective_leads_corners_to_corners() -> None:
    corners = np.array([(2.0, 1.0), (9.0, 2.0), (8.0, 8.0), (1.0, 7.0)])
    source = np.array([(0.0, 0.0), (10.0, 0.0), (10.0, 5.0), (0.0, 5.0)])
    a, b, c, d, e, f, g, h = perspective(corners, source)
    for (x, y), expected in zip(corners, source, strict=True):
        weight = g * x + h * y + 1
        assert [(a * x + b * y + c) / weight, (d * x + e * y + f) / weight] == pytest.approx(list(expected), abs=1e-9)
    assert perspective(source, source) == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0), abs=1e-9)
