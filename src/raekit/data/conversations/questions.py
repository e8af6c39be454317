"""Questions about pictures whose truth is known: what is this, how many, what colour, is there a ..., does it match.

In: emoji or composed scenes, whose metadata states what they show. Out: conversations about one picture, with one or
several questions and their answers. Nothing is written by a model, so every answer is right, and pictures of a held-out
split give held-out questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from raekit.config import component
from raekit.data import DATASETS
from raekit.data.conversations.base import IMAGE, Conversation, ConversationConfig, OfPictures, Turn
from raekit.data.conversations.facts import CHANGES, KINDS, Asked, Change, Facts, Kind, Untrue, ask
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.data.scenes import Scenes
from raekit.data.shards import Shards
from raekit.errors import UserError

if TYPE_CHECKING:
    SourceChoice = SourceConfig
else:
    SourceChoice = component(DATASETS)

MAX_READ_FOR_NAMES = 2_000
"""Samples, evenly spread, whose names may be asked for where they are not."""


class Questions(OfPictures):
    """Questions and true answers about emoji and composed scenes.

    Raises:
        UserError: a source whose samples state nothing about themselves.
    """

    class Config(ConversationConfig):
        """Which pictures, and what is asked."""

        name: Literal["questions"] = "questions"
        source: SourceChoice
        """Emoji shards, composed scenes, or shards of such scenes."""
        kinds: tuple[Kind, ...] = Field(KINDS, min_length=1)
        """Kinds of question, asked equally often of the pictures that they apply to."""
        changes: tuple[Change, ...] = Field(CHANGES, min_length=1)
        """What the prompts of "match" may get wrong: one of these in each that does not match."""
        per_image: int = Field(1, ge=1)
        """Questions about one picture, at most, one after the other and each of another kind."""
        is_varied: bool = True
        """Ask in several wordings; false: in the first one alone, for evaluation."""

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(config.source)
        self.untrue = Untrue(names_in(self.source), config.changes)
        """What can be asked for although it is not so."""
        if not self.untrue.names:
            raise UserError(
                f"questions: samples of {config.source.name!r} state neither label_text nor include; ask about emoji "
                "shards or composed scenes"
            )

    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        sample = self.source[index]
        turns = []
        for asked in self.ask(sample, chance):
            turns += [Turn("user", asked.question), Turn("assistant", asked.answer)]
        turns[0] = Turn("user", f"{IMAGE}\n{turns[0].text}")
        return Conversation(tuple(turns), (sample.image,), sample.key)

    def ask(self, sample: Sample, chance: np.random.Generator) -> list[Asked]:
        """Questions about one picture, at least one.

        Raises:
            BadSample: none of the kinds applies to it.
        """
        facts = Facts.of(sample)
        found: list[Asked] = []
        for number in chance.permutation(len(self.config.kinds)) if facts is not None else ():
            wording = int(chance.integers(1 << 16)) if self.config.is_varied else 0
            assert facts is not None
            asked = ask(self.config.kinds[number], facts, self.untrue, chance, wording)
            found += [] if asked is None else [asked]
            if len(found) == self.config.per_image:
                break
        if not found:
            raise BadSample(f"{sample.key}: no question of kind {', '.join(self.config.kinds)} can be asked about it")
        return found


def names_in(source: Source) -> list[str]:
    """What the pictures of a source show, by name, sorted; of many, as many as are looked at."""
    if isinstance(source, Scenes):
        return sorted({kind for kinds in source.sprites.values() for kind in kinds})
    found: set[str] = set()
    for index in np.unique(np.linspace(0, len(source) - 1, min(len(source), MAX_READ_FOR_NAMES)).astype(int)):
        try:
            known = source.metadata(int(index)) if isinstance(source, Shards) else source[int(index)].metadata
        except BadSample:  # met, counted and named when it is read
            continue
        if include := known.get("include"):
            found.update(wanted["class"] for wanted in include)
        elif isinstance(label := known.get("label_text"), str):
            found.add(label)
    return sorted(found)
