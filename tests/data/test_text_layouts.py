from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raekit.data.text_layouts import KINDS, MARGIN, Page, plan, tilt, wrap

WORDS = {"line": 1, "paragraph": 7, "poster": 4, "tilted": 2, "sign": 3}
ALL = ["quick", "Jigsaw", "PUZZLE", "of", "seven", "wonderful", "words"]


def page(size: int = 96, seed: int = 0) -> Page:
    return Page(size, None, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_keeps_its_words_in_order_inside_the_margins(kind) -> None:
    for seed in range(25):
        words = ALL[: WORDS[kind]]
        layout = plan(kind, words, page(seed=seed))
        assert " ".join(layout.lines).split() == words
        edges = np.array(layout.corners if layout.corners else [layout.content[:2], layout.content[2:]])
        assert edges.min() >= 96 * MARGIN - 0.5 and edges.max() <= 96 * (1 - MARGIN) + 0.5
        assert layout.points > 4
        assert (layout.panel is not None) == (kind == "sign")


def test_words_of_a_poster_do_not_touch() -> None:
    for seed in range(25):
        boxes = [block.box for block in plan("poster", ALL[:6], page(128, seed)).blocks]
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:number]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_a_block_fills_the_room_it_is_given() -> None:
    for seed in range(10):
        block = page(seed=seed).set(["wonderful"], (10, 20, 90, 80), smallest=1.0)
        assert block.box[2] - block.box[0] == pytest.approx(80, abs=6)
        assert block.box[0] >= 10 and block.box[2] <= 90


def test_a_tilt_of_nothing_only_moves_and_says_how_much_smaller() -> None:
    here = page(100)
    upright = plan("line", ["word"], here)
    tilted = tilt(replace(upright, kind="tilted"), here, 30.0, smallest=1.0)
    assert tilted.scale < 1.3
    assert tilted.points == pytest.approx(upright.points * tilted.scale)
    (x0, y0), (x1, y1), *_ = tilted.corners
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) == pytest.approx(30, abs=8)


@pytest.mark.parametrize(
    ("words", "count", "lines"),
    [
        (["aa", "bb", "cc", "dd"], 2, ["aa bb", "cc dd"]),
        (["aa", "bb"], 1, ["aa bb"]),
        (["aa"], 3, ["aa"]),
        (["a", "a", "wonderful"], 2, ["a a", "wonderful"]),
    ],
)
def test_lines_are_of_about_equal_length(words, count: int, lines) -> None:
    assert wrap(words, count) == lines


def test_a_word_that_draws_nothing_takes_some_room() -> None:
    assert page().largest([" "], (0, 0, 50, 50)) > 0
