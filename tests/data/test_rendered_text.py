from __future__ import annotations

import numpy as np
import pytest

from raekit.data.palette import PALETTE, luminance
from raekit.data.rendered_text import LUMINANCE_GAP, RenderedText, draw_lines
from raekit.data.words import is_held_out
from raekit.errors import UserError


def source(**settings) -> RenderedText:
    return RenderedText(RenderedText.Config(**{"fonts": "builtin", "size": 64, **settings}))


def test_an_index_is_always_the_same_picture() -> None:
    first, second = source()[41], source()[41]
    assert np.array_equal(first.image, second.image)
    assert first.caption == second.caption
    assert source(seed=1)[41].caption != first.caption


def test_the_caption_quotes_what_is_drawn() -> None:
    text = source(max_words=3)
    for index in range(30):
        sample = text[index]
        words, ink, ground = (sample.metadata[key] for key in ("text", "ink", "ground"))
        assert f'"{words}" in {ink} letters on ' in sample.caption
        assert 1 <= len(words.split()) <= 3
        assert abs(luminance(PALETTE[ink]) - luminance(PALETTE[ground])) >= LUMINANCE_GAP
        colours = {tuple(pixel) for pixel in sample.image.reshape(-1, 3).tolist()}
        assert PALETTE[ground] in colours


def test_train_and_test_share_no_word_and_no_colour_pair_is_only_for_testing() -> None:
    train, test = source(), source(split="test")
    assert not set(train.words) & set(test.words)
    pairs = {f"{s.metadata['ink']} on {s.metadata['ground']}" for s in (train[i] for i in range(60))}
    assert not any(is_held_out(pair) for pair in pairs)
    assert {s.metadata["split"] for s in (test[i] for i in range(3))} == {"test"}


@pytest.mark.parametrize("lines", [["I"], ["wonderful"], ["Quick", "jigsaw", "puzzle"]])
def test_letters_stay_inside_the_picture(lines: list[str]) -> None:
    for seed in range(10):
        image = draw_lines(lines, 96, None, "black", "white", np.random.default_rng(seed))
        ink = np.nonzero(image[..., 0] < 128)
        assert len(ink[0]) > 20
        assert min(ink[0].min(), ink[1].min()) >= 2
        assert max(ink[0].max(), ink[1].max()) <= 93


def test_words_may_come_from_a_file(tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(f"word{number}" for number in range(50)))
    assert source(words=path)[0].metadata["text"].lower().startswith("word")
    with pytest.raises(UserError, match="cannot be read"):
        source(words=tmp_path / "none.txt")


def test_a_folder_without_fonts_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no \.ttf"):
        source(fonts=tmp_path)


def test_the_fonts_of_this_computer_draw_letters() -> None:
    sample = source(fonts="system")[3]
    assert len(np.unique(sample.image.reshape(-1, 3), axis=0)) > 2
