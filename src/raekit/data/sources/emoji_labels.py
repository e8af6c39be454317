"""Which Unicode concept an emoji drawing shows: joining the names of ten sets to the CLDR labels.

In: ``emojibase-data``'s English table and one set's names (with code points where the set states them). Out: a
:class:`Concept` per name. The sets name the same thing differently (``flag-for-japan``, ``alarmclock``, ``cloud-1``),
so keys are tried from the surest to the loosest, and a name that none of them finds is left out rather than guessed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TONE = re.compile(r"-(light|medium-light|medium|medium-dark|dark)(-skin-tone)?$")
"""How names end when the figure has one of the five skin tones (fluent-emoji leaves out "skin-tone")."""


@dataclass(frozen=True)
class Concept:
    """One entry of the CLDR table.

    Attributes:
        base: the key that splits and styles share: the label without skin tone, normalised.
        label: words for a caption.
        tags: keywords, most general last as the table gives them.
        group: one of nine, such as "food & drink".
        has_tone: whether a skin tone is stated.
    """

    base: str
    label: str
    tags: tuple[str, ...]
    group: str
    has_tone: bool = False


def normalise(text: str) -> str:
    """``"Côte d’Ivoire & co"`` to ``"cote-divoire-and-co"``: the form in which names are compared."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("&", " and ").replace("'", "")).strip("-")


def spoken(label: str) -> str:
    """A CLDR label as words: ``"flag: Japan"`` to "flag of Japan", ``"man: red hair"`` to "man with red hair"."""
    head, colon, tail = label.partition(": ")
    if not colon:
        return label
    if head in ("flag", "family"):
        return f"{head} of {tail}"
    if tail == "bald":
        return f"bald {head}"
    if tail.endswith(("skin tone", "hair", "beard")):
        return f"{head} with {'a ' if tail == 'beard' else ''}{tail}"
    return f"{head} {tail}" if head == "keycap" else f"{head}, {tail}"


class ConceptTable:
    """The CLDR table, searchable by code points and by name."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], groups: Mapping[int, str]) -> None:
        self._by_hexcode: dict[str, Concept] = {}
        self._by_name: dict[str, Concept] = {}
        for row, base in _with_skins(rows):
            if "group" not in row or groups[row["group"]] == "components":
                continue
            tags = tuple(base.get("tags", ()))
            concept = Concept(normalise(base["label"]), spoken(row["label"]), tags, groups[row["group"]], "tone" in row)
            self._by_hexcode[_hexcode(row["hexcode"])] = concept
            self._by_name.setdefault(normalise(row["label"]), concept)
        self._by_squashed: dict[str, Concept] = {}
        for name, concept in self._by_name.items():
            self._by_squashed.setdefault(name.replace("-", ""), concept)

    @classmethod
    def load(cls, package: Path) -> ConceptTable:
        """The table of an installed ``emojibase-data``."""
        messages = json.loads((package / "en" / "messages.json").read_text(encoding="utf-8"))
        rows = json.loads((package / "en" / "data.json").read_text(encoding="utf-8"))
        return cls(rows, {group["order"]: group["message"] for group in messages["groups"]})

    def find(self, name: str, hexcodes: Sequence[str] = (), aliases: Sequence[str] = ()) -> Concept | None:
        """The concept of one drawing: by code points, by name, by name without a trailing "-1" or "for", by alias,
        and last by name with the spaces removed."""
        for hexcode in hexcodes:
            if concept := self._by_hexcode.get(_hexcode(hexcode)):
                return concept
        for candidate in (name, *aliases):
            trimmed = re.sub(r"-[12]$", "", candidate)
            for form in (candidate, trimmed, trimmed.replace("flag-for-", "flag-")):
                if concept := self._by_name.get(form):
                    return concept
        return self._by_squashed.get(re.sub(r"-[12]$", "", name).replace("-", ""))


def _with_skins(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each row with its base row; a skin variant's base is the row that lists it."""
    for row in rows:
        yield row, row
        for skin in row.get("skins", ()):
            yield skin, row


def _hexcode(text: str) -> str:
    """Code points in one spelling, without the variation selector that some tables leave out."""
    return "-".join(code for code in text.upper().split("-") if code != "FE0F")
