"""Ticks are round and cover the values; lines are where their values are."""

from __future__ import annotations

import numpy as np
import pytest

from raekit.evaluate.figures import Mean
from raekit.studies.plot import COLOURS, HEIGHT, LEFT, TOP, WIDTH, Panel, draw_panels, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.53, 0.64, [0.52, 0.54, 0.56, 0.58, 0.6, 0.62, 0.64]),
        (-3, 40, [-10, 0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_equal_values_have_a_scale_too() -> None:
    found = ticks(0.5, 0.5)
    assert found[0] <= 0.5 <= found[-1] and found[0] < found[-1]


def test_lines_are_where_their_values_are() -> None:
    lines = {"low": [Mean(0.0, 0.0), Mean(0.0, 0.0)], "high": [None, Mean(1.0, 0.0)]}
    picture = draw_panels([Panel("one", ["1", "4"], lines, "N"), Panel("two", ["1"], {"a": [Mean(0.5, 0.1)]})])
    pixels = np.asarray(picture)
    first, second = (tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in COLOURS[:2])
    inside = pixels[TOP - 4 : TOP + HEIGHT + 4, LEFT : LEFT + WIDTH]
    rows = [np.nonzero((inside == np.array(colour)).all(-1))[0] for colour in (first, second)]
    assert rows[0].min() > HEIGHT - 4 and rows[1].max() < 10
    assert picture.width == 2 * draw_panels([Panel("two", ["1"], {"a": [None]})]).width
