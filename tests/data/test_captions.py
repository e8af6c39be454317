from __future__ import annotations

import pytest

from raekit.data.captions import alternative_captions, caption_of, counted, with_article


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("dog", "a dog"),
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("umbrella with rain drops", "an umbrella with rain drops"),
        ("scissors", "scissors"),
        ("skis", "skis"),
        ("red apples", "red apples"),
        ("smiling face with sunglasses", "a smiling face with sunglasses"),
        ("bus", "a bus"),
        ("wine glass", "a wine glass"),
        ("cooked rice", "cooked rice"),
        ("flag of Japan", "the flag of Japan"),
        ("Santa Claus", "Santa Claus"),
        ("Japanese castle", "a Japanese castle"),
        ("ATM sign", "an ATM sign"),
        ("OK hand", "an OK hand"),
        ("seven o’clock", "seven o’clock"),
        ("1st place medal", "a 1st place medal"),
        ("orange background", "an orange background"),
    ],
)
def test_articles(label: str, phrase: str) -> None:
    assert with_article(label) == phrase


def test_the_canonical_caption() -> None:
    assert caption_of("owl", "outlined emoji") == "an outlined emoji of an owl"


def test_alternatives_say_the_same_in_other_ways() -> None:
    found = alternative_captions("dog face", "flat emoji", ("dog", "pet", "puppy"), "animals & nature")
    assert found == [
        "dog face",
        "a dog face",
        "dog face, flat emoji",
        "a flat emoji showing a dog face",
        "dog face, pet, puppy",
        "animals & nature: dog face",
    ]


def test_alternatives_do_not_repeat() -> None:
    assert alternative_captions("scissors", "flat emoji")[:2] == ["scissors", "scissors, flat emoji"]


@pytest.mark.parametrize(
    ("number", "label", "phrase"),
    [
        (3, "wine glass", "three wine glasses"),
        (1, "dog", "one dog"),
        (2, "person", "two people"),
        (2, "knife", "two knives"),
        (4, "sheep", "four sheep"),
        (2, "cherry", "two cherries"),
        (2, "donkey", "two donkeys"),
        (2, "toothbrush", "two toothbrushes"),
        (3, "skis", "three skis"),
    ],
)
def test_counts(number: int, label: str, phrase: str) -> None:
    assert counted(number, label) == phrase
