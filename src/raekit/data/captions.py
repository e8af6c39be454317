"""English captions from labels: articles, and several ways to say the same thing.

In: a label ("umbrella with rain drops"), tags, a style. Out: a canonical caption and its alternatives. Text-to-image
models are told the same picture in several ways (Scale-RAE, section 2, mixes long and short captions), and a model
that has only seen one template reads no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MASS_NOUNS = frozenset(
    "bacon bread butter cash coal coral cotton curry food fire fog glitter hay honey ice luggage lightning meat milk "
    "money music poo popcorn rice sake salt sand smoke snow spaghetti steam sushi tea water wine wood yarn".split()
)
"""Nouns that take no article."""

SINGULAR_IN_S = frozenset("bus cactus gas lens tennis abacus chess hibiscus lotus octopus texas isis".split())
"""Singular nouns that end in a single s."""

_TAIL = re.compile(r" (with|without|of|in|on|from|behind|at|for|over|under|holding|facing|between|to) ")
_SOUNDS_LIKE_YOU = re.compile(r"(uni|use|usu|euro|one|once|ewe|ukulele|utensil)", re.IGNORECASE)


def with_article(label: str) -> str:
    """The label as a noun phrase: "a dog", "an owl", "scissors", "the flag of Japan", "Santa Claus"."""
    if label.startswith("flag of "):
        return f"the {label}"
    head = _TAIL.split(label)[0]
    words = head.split()
    if not words or _takes_no_article(words):
        return label
    return f"{'an' if _begins_with_vowel(words[0]) else 'a'} {label}"


def _takes_no_article(words: Sequence[str]) -> bool:
    last = words[-1].lower()
    is_singular = last.endswith(("ss", "us", "is", "’s")) and last != "skis" or last in SINGULAR_IN_S
    is_plural = last.endswith("s") and not is_singular
    is_name = all(word[0].isupper() and word[1:].islower() for word in words)
    is_clock = bool(re.search(r"o[’']clock|thirty$", last))
    starts_with_number = words[0][0].isdigit() and not words[0].endswith(("st", "nd", "rd", "th"))
    return is_plural or is_name or is_clock or starts_with_number or last in MASS_NOUNS


def _begins_with_vowel(word: str) -> bool:
    letters = re.sub(r"[^A-Za-z]", "", word)
    if letters.isupper() and len(letters) <= 3 and letters not in ("NEW", "FREE"):
        return letters[0] in "AEFHILMNORSX"
    return letters[:1].lower() in tuple("aeiou") and not _SOUNDS_LIKE_YOU.match(letters)


def caption_of(label: str, style: str) -> str:
    """The canonical caption: "a flat emoji of a dog"."""
    return f"{with_article(style)} of {with_article(label)}"


def alternative_captions(label: str, style: str, tags: Sequence[str] = (), group: str = "") -> list[str]:
    """Other captions of the same picture, from the bare label to one with tags, without repeats."""
    others = [label, with_article(label), f"{label}, {style}", f"{with_article(style)} showing {with_article(label)}"]
    new_tags = [tag for tag in tags if tag.lower() not in label.lower()]
    if len(new_tags) >= 2:
        others.append(f"{label}, {new_tags[0]}, {new_tags[1]}")
    if group:
        others.append(f"{group}: {label}")
    return list(dict.fromkeys(others))


_PLURALS = {"person": "people", "knife": "knives", "mouse": "mice", "sheep": "sheep", "tooth": "teeth"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def counted(number: int, label: str) -> str:
    """``(3, "wine glass")`` to "three wine glasses"; the last word is the one that changes."""
    *first, last = label.split()
    return " ".join([_NUMBERS[number], *first, _plural(last) if number != 1 else last])


def _plural(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("skis", "scissors")):
        return word
    if word.endswith(("s", "x", "ch", "sh")) or word in ("broccoli", "potato"):
        return word if word == "broccoli" else f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}s"
