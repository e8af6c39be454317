"""Word recall, counted on paper."""

from __future__ import annotations

import math

import pytest

from raekit.metrics.ocr import num_found, recall, words_of


def test_words_are_runs_of_letters_and_digits_without_case() -> None:
    assert words_of("OPEN 24/7, Café_Zoë!") == ["open", "24", "7", "café", "zoë"]


@pytest.mark.parametrize(
    ("text", "reading", "found"),
    [("red dog", "DOG\nred.", 2), ("no no yes", "no yes yes", 2), ("word", "words", 0), ("word", "", 0)],
)
def test_each_word_counts_as_often_as_it_is_read(text: str, reading: str, found: int) -> None:
    assert num_found(text, reading) == found


def test_recall_is_over_words_and_its_error_over_pictures() -> None:
    texts = ["one two three", "four"]
    found = recall(texts, ["one two", ""], texts)
    assert found is not None
    assert (found.value, found.ceiling, found.num_words, found.num_images) == (0.5, 1.0, 4, 2)
    # Residuals 2 - 0.5 * 3 and 0 - 0.5 * 1, summed in squares, times 2 / 1.
    assert found.standard_error == pytest.approx(math.sqrt(2 * 0.5) / 4)


def test_one_picture_has_no_error_and_none_no_recall() -> None:
    alone = recall(["a b"], ["b"], ["a"])
    assert alone is not None and (alone.value, alone.standard_error, alone.ceiling) == (0.5, 0.0, 0.5)
    assert recall([], [], []) is None
    assert recall(["--"], [""], [""]) is None
