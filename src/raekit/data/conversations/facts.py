"""What is known to be true of a picture, and questions whose answers follow from it.

In: the metadata of an emoji (``label_text``, ``tags``, ``style``) or of a composed scene (``include``, ``tag``). Out:
:class:`Facts`, and one function for each kind of question, which gives question and answer, or nothing where the kind
does not apply. Half of all questions that are answered by yes or no are answered by no; what a "no" asks about is as
near the truth as can be had: one class, colour, number or relation changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from raekit.data.captions import alternative_captions, caption_of, counted, with_article
from raekit.data.palette import GENEVAL_COLOURS
from raekit.data.sample import Sample
from raekit.data.scene_plan import RELATIONS, Task, plan_of
from raekit.errors import UserError

T = TypeVar("T")
Kind = Literal["naming", "counting", "colour", "presence", "match"]
KINDS: tuple[Kind, ...] = ("naming", "counting", "colour", "presence", "match")
Change = Literal["class", "colour", "number", "place"]
CHANGES: tuple[Change, ...] = ("class", "colour", "number", "place")
"""What may be untrue of a scene."""

WORDINGS: dict[Kind, tuple[str, ...]] = {
    "naming": ("what is this?", "what is shown here?", "what do you see?", "name what is in this image."),
    "counting": ("how many {things} are there?", "how many {things} do you see?", "count the {things}."),
    "colour": ("what colour is the {thing}?", "what color is the {thing}?", "which colour does the {thing} have?"),
    "presence": ("is there {a_thing}?", "do you see {a_thing}?", "is {a_thing} in this image?"),
    "match": (
        "Does this image align with the prompt: {prompt}?",
        'does this image match the prompt "{prompt}"?',
        "is this {prompt}?",
    ),
}
"""Ways to ask; the first of each is what evaluations ask, and the first of the last is the verifiers' question."""

YES, NO = "yes", "no"
MAX_COUNT = 4
"""Scenes hold at most this many things of a class."""
MAX_ATTEMPTS = 20
"""Draws of something untrue before a question is given up."""


class Untrue(NamedTuple):
    """What untrue statements are made of.

    Attributes:
        names: of things that might be asked for although they are not there.
        changes: what an untrue prompt may get wrong; a scene that has none of these is asked no question of the kind
            "match". With colours and numbers alone, no answer hangs on telling one class from another, which a small
            encoder may not be able to.
    """

    names: Sequence[str]
    changes: tuple[Change, ...] = CHANGES


class Asked(NamedTuple):
    """A question whose answer is known."""

    kind: Kind
    question: str
    answer: str


@dataclass(frozen=True)
class Facts:
    """What a picture shows.

    Attributes:
        name: of the only thing in it; None where there are several.
        counts: how many there are of each class.
        colours: of each class that is there once and was given one.
        words: all that it is or might be called, in lower case; nothing untrue is asked with one of these.
        captions: sentences that are true of it.
        style: of an emoji, as its captions name it.
        task: of a scene, and ``include`` as GenEval states it; None of anything else.
    """

    name: str | None
    counts: Mapping[str, int]
    colours: Mapping[str, str]
    words: frozenset[str]
    captions: tuple[str, ...]
    style: str | None = None
    task: Task | None = None
    include: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, sample: Sample) -> Facts | None:
        """The facts of a sample; None where its metadata states none."""
        known, captions = sample.metadata, tuple(sample.captions)
        if known.get("include") and known.get("tag"):
            include = tuple(known["include"])
            counts = {wanted["class"]: int(wanted["count"]) for wanted in include}
            colours = {wanted["class"]: wanted["color"] for wanted in include if wanted.get("color")}
            name = next(iter(counts)) if list(counts.values()) == [1] else None
            return cls(name, counts, colours, words_of(counts), captions, None, known["tag"], include)
        if isinstance(label := known.get("label_text"), str) and label:
            words = words_of([label, *known.get("tags", ())])
            return cls(label, {label: 1}, {}, words, captions, known.get("style"))
        return None


Maker = Callable[[Facts, Untrue, np.random.Generator], tuple[dict[str, str], str] | None]
"""What stands in the gaps of a wording, and the answer; None where the kind does not apply."""


def ask(kind: Kind, facts: Facts, untrue: Untrue, chance: np.random.Generator, wording: int = 0) -> Asked | None:
    """A question of a kind.

    Args:
        kind: which.
        facts: of the picture.
        untrue: what a "no" may be about.
        chance: decides what is asked, and between yes and no.
        wording: which of :data:`WORDINGS`, counted round.

    Returns:
        None where nothing of the kind can be asked of this picture.
    """
    made = _MAKERS[kind](facts, untrue, chance)
    if made is None:
        return None
    gaps, answer = made
    question = WORDINGS[kind][wording % len(WORDINGS[kind])]
    for gap, words in gaps.items():
        question = question.replace(f"{{{gap}}}", words)
    return Asked(kind, question, answer)


def words_of(names: Sequence[str] | Mapping[str, Any]) -> frozenset[str]:
    """The single words of some names, in lower case."""
    return frozenset(word for name in names for word in str(name).lower().replace("-", " ").split())


def plural(name: str) -> str:
    """ "wine glass" to "wine glasses"."""
    return counted(2, name).removeprefix("two ")


def number_word(number: int) -> str:
    """3 to "three"."""
    return counted(number, "x").split()[0]


def _naming(facts: Facts, untrue: Untrue, chance: np.random.Generator) -> tuple[dict[str, str], str] | None:
    return None if facts.name is None else ({}, with_article(facts.name))


def _counting(facts: Facts, untrue: Untrue, chance: np.random.Generator) -> tuple[dict[str, str], str] | None:
    if facts.task == "counting":
        ((name, count),) = facts.counts.items()
        return {"things": plural(name)}, number_word(count)
    # One thing in each scene of one: asked less often, so that the four answers are about equally frequent.
    if facts.task == "single_object" and facts.name and chance.random() < 1 / (MAX_COUNT - 1):
        return {"things": plural(facts.name)}, number_word(1)
    return None


def _colour(facts: Facts, untrue: Untrue, chance: np.random.Generator) -> tuple[dict[str, str], str] | None:
    if not facts.colours:
        return None
    name = _one(sorted(facts.colours), chance)
    return {"thing": name}, facts.colours[name]


def _presence(facts: Facts, untrue: Untrue, chance: np.random.Generator) -> tuple[dict[str, str], str] | None:
    if chance.random() < 0.5:
        return {"a_thing": with_article(_one(sorted(facts.counts), chance))}, YES
    other = _absent(facts, untrue.names, chance)
    return None if other is None else ({"a_thing": with_article(other)}, NO)


def _match(facts: Facts, untrue: Untrue, chance: np.random.Generator) -> tuple[dict[str, str], str] | None:
    shown, changeable = _shown(facts, chance), _changeable(facts, untrue.changes)
    if shown is None or not shown.wordings or not changeable:
        return None
    wording = _one(shown.wordings, chance)
    if chance.random() < 0.5:
        return {"prompt": wording.format(it=shown.it, an_it=with_article(shown.it))}, YES
    names = untrue.names
    other = _untrue_scene(facts, changeable, names, chance) if facts.task else _absent(facts, names, chance)
    return None if other is None else ({"prompt": wording.format(it=other, an_it=with_article(other))}, NO)


class Shown(NamedTuple):
    """What a picture shows, in words, and sentences with a gap for it: what is true and what is not are told in the
    same ones, or the wording would give the answer away."""

    it: str
    wordings: tuple[str, ...]


def _shown(facts: Facts, chance: np.random.Generator) -> Shown | None:
    if not facts.task:
        assert facts.name is not None
        styled = (caption_of("{}", facts.style), *alternative_captions("{}", facts.style)) if facts.style else ()
        plain = (caption.replace(with_article("{}"), "{an_it}").replace("{}", "{it}") for caption in styled)
        return Shown(facts.name, tuple(dict.fromkeys(("{it}", "{an_it}", *plain))))
    try:
        it = plan_of(facts.task, [dict(wanted) for wanted in facts.include], chance).caption
    except UserError:  # a scene that others described
        return None
    whole = (caption.replace("{", "{{").replace("}", "}}") for caption in facts.captions if it in caption)
    return Shown(it, tuple(caption.replace(it, "{it}", 1) for caption in whole))


_FIELDS: dict[Change, str] = {"class": "class", "colour": "color", "number": "count", "place": "position"}
"""Where a scene's metadata state what may be untrue of it."""


def _changeable(facts: Facts, changes: Sequence[Change]) -> list[Change]:
    """What could be untrue of a picture, of what may be; of an emoji its name alone, numbers where they are told."""
    stated = {change for change, field in _FIELDS.items() if any(wanted.get(field) for wanted in facts.include)}
    stated = stated - {"number"} if facts.task != "counting" else stated
    return [change for change in changes if change in (stated if facts.task else ("class",))]


def _untrue_scene(
    facts: Facts, changes: Sequence[Change], names: Sequence[str], chance: np.random.Generator
) -> str | None:
    """What a scene shows of which one thing was changed."""
    assert facts.task is not None
    include = [dict(wanted) for wanted in facts.include]
    change = _one(changes, chance)
    changed = _one([wanted for wanted in include if wanted.get(_FIELDS[change])], chance)
    if change == "class":
        other = _absent(facts, names, chance)
        if other is None:
            return None
        changed["class"] = other
    elif change == "colour":
        changed["color"] = _one([c for c in GENEVAL_COLOURS if c != changed["color"]], chance)
    elif change == "place":
        changed["position"] = [_one([r for r in RELATIONS if r != changed["position"][0]], chance), 0]
    else:
        changed["count"] = _one([n for n in range(2, MAX_COUNT + 1) if n != changed["count"]], chance)
    try:
        return plan_of(facts.task, include, chance).caption
    except UserError:  # no scene of the task shows that
        return None


def _absent(facts: Facts, names: Sequence[str], chance: np.random.Generator) -> str | None:
    """A name that shares no word with what the picture shows or might be taken for."""
    for _ in range(MAX_ATTEMPTS if names else 0):
        other = _one(names, chance)
        if not words_of([other]) & facts.words:
            return other
    return None


def _one(choices: Sequence[T], chance: np.random.Generator) -> T:
    return choices[int(chance.integers(len(choices)))]


_MAKERS: dict[Kind, Maker] = {
    "naming": _naming,
    "counting": _counting,
    "colour": _colour,
    "presence": _presence,
    "match": _match,
}
