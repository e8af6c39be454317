from __future__ import annotations

from raekit.data.words import WORDS, is_held_out


def test_the_words_are_plain_and_distinct() -> None:
    assert len(WORDS) == len(set(WORDS)) > 400
    assert all(word.isascii() and word.isalpha() and word.islower() and 2 <= len(word) <= 10 for word in WORDS)


def test_the_share_held_out_is_about_what_was_asked_for() -> None:
    names = [f"name {number}" for number in range(2000)]
    assert abs(sum(map(is_held_out, names)) / 2000 - 0.1) < 0.02
    assert abs(sum(is_held_out(name, 0.5) for name in names) / 2000 - 0.5) < 0.04


def test_what_is_held_out_never_changes() -> None:
    """Pinned: another answer would move words from the test split of a published run into training."""
    found = [word for word in WORDS[:60] if is_held_out(word)]
    assert found == ["again", "angle", "aspen", "blanket", "bottle", "cabin"]
