from __future__ import annotations

import json

import numpy as np
import pytest

from raekit.data.palette import PALETTE, luminance
from raekit.data.rendered_text import LUMINANCE_GAP, RenderedText
from raekit.data.text_layouts import KINDS
from raekit.data.words import is_held_out
from raekit.errors import UserError

WEIGHTS = np.array([0.299, 0.587, 0.114])


def source(**settings) -> RenderedText:
    return RenderedText(RenderedText.Config(**{"fonts": "builtin", "size": 64, **settings}))


def test_an_index_is_always_the_same_picture() -> None:
    first, second = source(), source()
    for index in (41, 3, 12):
        assert np.array_equal(first[index].image, second[index].image)
        assert first[index].captions == second[index].captions
        assert first[index].metadata == second[index].metadata
    assert source(seed=1)[41].caption != first[41].caption


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_caption_quotes_what_is_drawn(size: int) -> None:
    text = source(size=size)
    seen = set()
    for index in range(40):
        sample = text[index]
        facts = sample.metadata
        assert sample.image.shape == (size, size, 3)
        assert facts["text"] == " ".join(facts["lines"]) == " ".join(box["text"] for box in facts["boxes"])
        assert all(
            f'"{block["text"]}"' in sample.caption or facts["text"] in sample.caption for block in facts["boxes"]
        )
        assert facts["ink"] in sample.caption and all(name in sample.caption for name in facts["grounds"])
        assert facts["points"] >= min(14, size // 4)
        assert json.loads(json.dumps(facts)) == facts
        seen.add(facts["layout"])
    assert seen == (set(KINDS) if size > 32 else {"line", "poster", "tilted", "sign"})


@pytest.mark.parametrize("layouts", [("line", "paragraph", "poster"), ("sign", "tilted")])
def test_letters_keep_their_distance_from_whatever_is_under_them(layouts) -> None:
    """The two ends of a mixed ground bound its luminance; the letters lie beyond the gap on one side."""
    text = source(layouts=layouts, grounds=("gradient", "picture"))
    for index in range(40):
        facts = text[index].metadata
        ink = luminance(PALETTE[facts["ink"]])
        under = [facts["ground"]] if facts["layout"] == "sign" else [facts["ground"], *facts["grounds"]]
        gaps = [luminance(PALETTE[name]) - ink for name in under]
        assert min(map(abs, gaps)) >= LUMINANCE_GAP
        assert len({gap > 0 for gap in gaps}) == 1


def test_the_pixels_keep_that_distance() -> None:
    """Drawn without letters' colour nearby: the lightness of a picture splits in two at the middle of the gap."""
    text = source(layouts=("line",), grounds=("picture",))
    for index in range(20):
        sample = text[index]
        ink = luminance(PALETTE[sample.metadata["ink"]])
        left, top, right, bottom = sample.metadata["boxes"][0]["box"]
        light = sample.image @ WEIGHTS
        light[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = np.nan
        assert np.nanmin(np.abs(light - ink)) >= LUMINANCE_GAP - 1


def test_train_and_test_share_no_word_and_no_colour_pair_is_only_for_testing() -> None:
    train, test = source(), source(split="test")
    assert not set(train.words) & set(test.words)
    for sample in (train[index] for index in range(80)):
        facts = sample.metadata
        assert not any(is_held_out(word.lower()) for word in facts["text"].split())
        under = [facts["ground"]] if facts["layout"] == "sign" else facts["grounds"]
        assert not any(is_held_out(f"{facts['ink']} on {name}") for name in under)
    for sample in (test[index] for index in range(20)):
        assert sample.metadata["split"] == "test"
        assert all(is_held_out(word.lower()) for word in sample.metadata["text"].split())


@pytest.mark.parametrize("max_words", [1, 2, 5])
def test_words_are_at_most_as_many_as_asked_for(max_words: int) -> None:
    text = source(max_words=max_words, size=128)
    counts = {len(text[index].metadata["text"].split()) for index in range(40)}
    assert max(counts) <= max_words
    assert len(counts) == max_words


def test_larger_letters_mean_fewer_words() -> None:
    text = source(size=128, min_points=30)
    assert min(text[index].metadata["points"] for index in range(30)) >= 30
    assert max(len(text[index].metadata["text"].split()) for index in range(30)) <= 3


def test_layouts_that_need_more_words_are_refused() -> None:
    with pytest.raises(UserError, match="max_words 1: too few for layouts poster, paragraph; add line"):
        source(max_words=1, layouts=("poster", "paragraph"))


def test_words_may_come_from_a_file(tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(f"word{number}" for number in range(50)))
    assert source(words=path)[0].metadata["text"].lower().startswith("word")
    with pytest.raises(UserError, match="cannot be read"):
        source(words=tmp_path / "none.txt")


def test_words_too_long_to_be_legible_are_drawn_as_large_as_they_fit(tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("incomprehensibilities\n")
    facts = source(words=path)[5].metadata
    assert 2 < facts["points"] < 14
    assert set(facts["text"].lower().split()) == {"incomprehensibilities"}


def test_the_fonts_of_this_computer_draw_letters() -> None:
    sample = source(fonts="system")[3]
    assert len(np.unique(sample.image.reshape(-1, 3), axis=0)) > 2
