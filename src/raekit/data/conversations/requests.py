"""Captioned pictures as requests to draw them: "Can you generate a photo of ...?", and the picture for an answer.

In: any source of captioned pictures. Out: conversations in which the picture is the assistant's, to be drawn. People
ask in many ways, and a model that was trained on one wording reads no other (Scale-RAE, appendix A, rewrites
captions the same way); some requests are the caption itself, which is what most people type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from raekit.config import component
from raekit.data import DATASETS
from raekit.data.conversations.base import IMAGE, Conversation, ConversationConfig, OfPictures, Turn
from raekit.data.sample import BadSample, Sample, SourceConfig

if TYPE_CHECKING:
    SourceChoice = SourceConfig
else:
    SourceChoice = component(DATASETS)

TEMPLATES = (
    "Can you generate a photo of {caption}?",
    "Generate an image of {caption}",
    "Please draw {caption}.",
    "I would like a picture of {caption}.",
    "Create an image: {caption}",
    "Show me {caption}",
    "Make a picture of {caption}, please.",
    "Paint {caption} for me.",
)
"""Ways to ask for a picture; the first is Scale-RAE's."""

LEAD = re.compile(r"^an? (picture|photo|photograph|image) of ", re.IGNORECASE)
"""What captions begin with and wordings say already."""


class Requests(OfPictures):
    """Captioned pictures, asked for in many wordings."""

    class Config(ConversationConfig):
        """Which pictures, and how they are asked for."""

        name: Literal["requests"] = "requests"
        source: SourceChoice
        """Pictures with captions: any row of ``datasets``."""
        captions: Literal["canonical", "short", "any"] = "canonical"
        """Always the canonical caption; that or the shortest one, evenly; or any of a sample's captions."""
        templates: tuple[str, ...] = Field(TEMPLATES, min_length=1)
        """Wordings, each with ``{caption}`` in it; one is drawn for each request."""
        plain: float = Field(0.5, ge=0, le=1)
        """Share of the requests that are the caption and nothing else, in [0, 1]."""
        replies: tuple[str, ...] = Field((IMAGE,), min_length=1)
        """What the assistant answers, each with ``<image>`` in it. A generator that is told ``condition.reply`` draws
        after those very words; after several different ones, set it to null."""

        @field_validator("templates")
        @classmethod
        def _hold_captions(cls, values: tuple[str, ...]) -> tuple[str, ...]:
            if bad := [value for value in values if "{caption}" not in value or IMAGE in value]:
                raise ValueError(f"{bad[0]!r} needs {{caption}} in it, and no {IMAGE}")
            return values

        @field_validator("replies")
        @classmethod
        def _hold_one_picture(cls, values: tuple[str, ...]) -> tuple[str, ...]:
            if bad := [value for value in values if value.count(IMAGE) != 1]:
                raise ValueError(f"{bad[0]!r} needs {IMAGE} in it, once")
            return values

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(config.source)

    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        sample = self.source[index]
        caption = self._caption(sample, chance)
        if not caption.strip() or IMAGE in caption:
            raise BadSample(f"{sample.key}: has no caption to ask for it with")
        request = caption
        if chance.random() >= self.config.plain:
            request = _one(self.config.templates, chance).replace("{caption}", LEAD.sub("", caption))
        turns = (Turn("user", request), Turn("assistant", _one(self.config.replies, chance)))
        return Conversation(turns, (sample.image,), sample.key)

    def _caption(self, sample: Sample, chance: np.random.Generator) -> str:
        if self.config.captions == "any":
            return _one(sample.captions, chance)
        is_short = self.config.captions == "short" and chance.random() < 0.5
        return min(sample.captions, key=len) if is_short else sample.caption


def _one(choices: list[str] | tuple[str, ...], chance: np.random.Generator) -> str:
    return choices[int(chance.integers(len(choices)))]
