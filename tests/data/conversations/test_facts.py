"""Questions from ground truth: every answer follows from what is known, and half the yes-or-no ones are no."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from raekit.data.conversations.facts import (
    CHANGES,
    KINDS,
    WORDINGS,
    Asked,
    Change,
    Facts,
    Kind,
    Untrue,
    ask,
    number_word,
    plural,
    words_of,
)
from raekit.data.sample import Sample
from raekit.verifiers.answer_logits import QUESTION

PIXELS = np.zeros((4, 4, 3), np.uint8)
NAMES = ["cat", "dog", "dog face", "wine glass", "sheep"]


def facts(caption: str, **metadata: object) -> Facts:
    found = Facts.of(Sample(PIXELS, caption, "x", metadata))
    assert found is not None
    return found


EMOJI = facts("a flat emoji of a dog", label_text="dog", tags=["puppy"], style="flat emoji", alternatives=["dog"])
COUNTED = facts("a picture of three cats", tag="counting", include=[{"class": "cat", "count": 3}])
SINGLE = facts("a picture of a cat", tag="single_object", include=[{"class": "cat", "count": 1}])
PAIR = facts(
    "a picture of a red dog and a blue cat",
    tag="color_attr",
    include=[{"class": "dog", "count": 1, "color": "red"}, {"class": "cat", "count": 1, "color": "blue"}],
)
BESIDE = facts(
    "a picture of a dog left of a cat",
    tag="position",
    include=[{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
)


def asked(kind: Kind, about: Facts, times: int = 400, changes: tuple[Change, ...] = CHANGES) -> Counter[Asked | None]:
    untrue = Untrue(NAMES, changes)
    return Counter(ask(kind, about, untrue, np.random.default_rng(seed)) for seed in range(times))


def answers(kind: Kind, about: Facts, changes: tuple[Change, ...] = CHANGES) -> dict[str, str]:
    return {found.question: found.answer for found in asked(kind, about, changes=changes) if found is not None}


def test_naming_counting_and_colour() -> None:
    assert answers("naming", EMOJI) == {"what is this?": "a dog"}
    assert answers("naming", SINGLE) == {"what is this?": "a cat"}
    assert answers("naming", PAIR) == answers("naming", COUNTED) == {}
    assert answers("counting", COUNTED) == {"how many cats are there?": "three"}
    assert answers("counting", SINGLE) == {"how many cats are there?": "one"}
    assert answers("counting", EMOJI) == answers("counting", PAIR) == {}
    colours = {"what colour is the dog?": "red", "what colour is the cat?": "blue"}
    assert answers("colour", PAIR) == colours and answers("colour", EMOJI) == {}


def test_one_thing_is_counted_less_often_than_several() -> None:
    found = asked("counting", SINGLE, 900)
    assert 230 < 900 - found[None] < 370


def test_presence() -> None:
    found = answers("presence", EMOJI)
    assert found == {
        "is there a dog?": "yes",
        "is there a cat?": "no",
        "is there a wine glass?": "no",
        "is there a sheep?": "no",
    }, "a dog face is a dog, and asked for by nobody"
    assert set(answers("presence", PAIR)) == {f"is there a {n}?" for n in ("dog", "cat", "sheep", "wine glass")}


@pytest.mark.parametrize("about", [EMOJI, COUNTED, SINGLE, PAIR, BESIDE])
@pytest.mark.parametrize("kind", ["presence", "match"])
def test_yes_and_no_are_even(kind: Kind, about: Facts) -> None:
    said = Counter(found.answer for found in asked(kind, about).elements() if found is not None)
    assert set(said) == {"yes", "no"} and 0.4 < said["yes"] / said.total() < 0.6


def prompts(about: Facts, answer: str, changes: tuple[Change, ...] = CHANGES) -> set[str]:
    before, _, after = WORDINGS["match"][0].partition("{prompt}")
    found = answers("match", about, changes)
    return {q.removeprefix(before).removesuffix(after) for q, said in found.items() if said == answer}


def test_matching_prompts_are_the_captions_and_others_differ_by_one_thing() -> None:
    forms = ("{}", "a {}", "a flat emoji of a {}", "{}, flat emoji", "a flat emoji showing a {}")
    assert prompts(EMOJI, "yes") == {form.format("dog") for form in forms}
    assert prompts(EMOJI, "no") == {form.format(name) for form in forms for name in ("cat", "sheep", "wine glass")}
    assert prompts(COUNTED, "yes") == {"a picture of three cats"}
    others = {"three dogs", "three dog faces", "three wine glasses", "three sheep", "two cats", "four cats"}
    assert prompts(COUNTED, "no") == {f"a picture of {other}" for other in others}
    untrue = prompts(BESIDE, "no")
    assert {"a picture of a dog above a cat", "a picture of a dog right of a cat"} <= untrue
    assert "a picture of a sheep left of a cat" in untrue and not any("dog face" in other for other in untrue)
    assert "a picture of a dog left of a cat" not in untrue
    words = words_of(["a picture of a red dog and a blue cat"])
    assert all(len(words ^ words_of([other])) <= 3 for other in prompts(PAIR, "no"))


def test_what_an_untrue_prompt_gets_wrong_can_be_chosen() -> None:
    assert prompts(COUNTED, "no", ("number", "colour")) == {"a picture of two cats", "a picture of four cats"}
    assert prompts(BESIDE, "no", ("place",)) == {
        f"a picture of a dog {r} a cat" for r in ("right of", "above", "below")
    }
    coloured = prompts(PAIR, "no", ("colour",))
    assert coloured and all({"dog", "cat"} <= words_of([other]) for other in coloured)
    for about in (EMOJI, SINGLE, BESIDE):
        assert answers("match", about, ("number", "colour")) == {}, "neither true nor untrue prompts are asked of it"


def test_the_wording_of_a_prompt_does_not_tell_whether_it_is_true() -> None:
    """A blind model must not do better than chance: true and untrue prompts are told in the same sentences."""
    scene = facts(
        "a picture of three cats",
        tag="counting",
        include=[{"class": "cat", "count": 3}],
        alternatives=["three cats", "a photo of three cats", "an emoji scene of three cats"],
    )
    for about, names in ((scene, r"(two|three|four) (cat|dog face|dog|wine glasse|sheep)s?"), (EMOJI, "|".join(NAMES))):
        yes, no = ({re.sub(names, "_", prompt) for prompt in prompts(about, answer)} for answer in ("yes", "no"))
        assert yes == no and len(yes) >= 4
    assert answers("match", facts("things, by others", tag="counting", include=[{"class": "cat", "count": 3}])) == {}


def test_wordings() -> None:
    assert WORDINGS["match"][0] == QUESTION, "what the verifier asks is trained on"
    assert set(WORDINGS) == set(KINDS)
    second = ask("colour", PAIR, Untrue(NAMES), np.random.default_rng(0), wording=4)
    assert second is not None and second.question.startswith("what color is the")
    assert (plural("wine glass"), plural("sheep"), number_word(4)) == ("wine glasses", "sheep", "four")


def test_pictures_that_nothing_is_known_of() -> None:
    assert Facts.of(Sample(PIXELS, "a dog")) is None
