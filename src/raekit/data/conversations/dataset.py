"""The conversations of a recipe: which sources in which shares, how large the pictures are, what is too long.

In: a recipe's ``data`` block. Out: :class:`ConversationData`, which maps a global position to a conversation with
square uint8 pictures, laid out as the model reads it. All chance in it comes from (seed, position). A conversation that
cannot be read, has too many pictures or is too long is passed over, counted and named, like an unreadable picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field, field_validator

from raekit import config
from raekit.config import component
from raekit.data.conversations import CONVERSATIONS
from raekit.data.conversations.base import Conversation, ConversationConfig, ConversationSource, Turn
from raekit.data.mixture import Domain, Mixture, domain_names
from raekit.data.palette import PALETTE
from raekit.data.quarantine import Skipped, first_usable, left_out_of
from raekit.data.sample import BadSample, Pixels, Source
from raekit.data.transforms import Crop, compose, to_chw, to_square

if TYPE_CHECKING:
    SourceChoice = ConversationConfig
else:
    SourceChoice = component(CONVERSATIONS)

TALK_STREAM = 5
"""Keeps the chance of conversations apart from that of other things made with the same seed."""

LayOut = Callable[[Sequence[Turn]], Any]
"""Turns to whatever the model reads; it has a length."""


class ConversationDataConfig(config.Config):
    """The ``data`` block of a recipe that learns from conversations."""

    mixture: tuple[SourceChoice, ...] = Field(min_length=1)
    """The sources, each with its ``weight``; requests to draw and questions about pictures stand side by side."""
    image_size: int = Field(256, ge=8)
    """Height and width of the pictures in pixels."""
    crop: Crop = "stretch"
    """How a picture becomes square; stretched, as published (Scale-RAE, released code), nothing that is asked about is
    cut off."""
    background: str = "white"
    """Behind pictures with transparency: the name of a colour."""
    max_images: int = Field(1, ge=0)
    """Conversations with more pictures are passed over (Scale-RAE: 1)."""
    max_tokens: int = Field(512, ge=8)
    """Conversations that are longer, slots of pictures included, are passed over (Scale-RAE: 512; finetuning 1024)."""
    row_tokens: int | None = Field(None, ge=8)
    """Pack several conversations into rows of so many tokens; longer ones have a row to themselves. None = one in each
    row. Rows are only as long as the longest of a micro-batch needs, so nothing is filled up to ``max_tokens``."""
    shuffle: bool = True
    """A new random order each epoch; false keeps each source's own order, for evaluation."""

    @field_validator("background")
    @classmethod
    def _check_background(cls, value: str) -> str:
        if value not in PALETTE:
            raise ValueError(f"must be one of {', '.join(PALETTE)}")
        return value


@dataclass(frozen=True)
class Talk:
    """What a position holds.

    Attributes:
        layout: what the model reads.
        images: uint8 ``[M, 3, size, size]``; None without any.
        position: global.
        domain: the source's name.
        key: of the conversation within it.
        turns: what is said.
        skipped: each conversation that could not be used on the way here, and why.
    """

    layout: Any
    images: Pixels | None
    position: int
    domain: str
    key: str
    turns: tuple[Turn, ...]
    skipped: tuple[Skipped, ...] = ()


class ConversationData:
    """Conversations by position; see the module's docstring.

    Args:
        settings: the ``data`` block.
        lay_out: turns as the model reads them.
        seed: of orders and wordings.
    """

    Config = ConversationDataConfig

    def __init__(self, settings: ConversationDataConfig, lay_out: LayOut, seed: int = 0) -> None:
        self.config, self.lay_out, self.seed = settings, lay_out, seed
        self.names = domain_names(settings.mixture)
        self.sources: list[ConversationSource] = [CONVERSATIONS.build(source) for source in settings.mixture]
        # A mixture asks its sources for nothing but their lengths.
        domains = [
            Domain(name, cast(Source, source), settings.weight)
            for name, source, settings in zip(self.names, self.sources, settings.mixture, strict=True)
        ]
        self.mixture = Mixture(domains, seed, settings.shuffle)

    @property
    def left_out(self) -> tuple[Skipped, ...]:
        """What the sources found unusable when they were opened; no position leads there."""
        return left_out_of(dict(zip(self.names, (source.left_out for source in self.sources), strict=True)))

    def __getitem__(self, position: int) -> Talk:
        place = self.mixture.locate(position)
        source, name = self.sources[place.domain], self.names[place.domain]
        chance = np.random.default_rng([TALK_STREAM, self.seed, position])

        def read(index: int) -> tuple[Conversation, Any, Pixels | None]:
            found = source.conversation(index, chance)
            return found, *self._usable(found)

        (found, layout, images), skipped = first_usable(
            read, place.index, len(source), name, source.key_of, "conversations"
        )
        return Talk(layout, images, position, name, found.key, found.turns, skipped)

    def _usable(self, read: Conversation) -> tuple[Any, Pixels | None]:
        """Layout and pictures.

        Raises:
            BadSample: more of either than the recipe takes.
        """
        if len(read.images) > self.config.max_images:
            raise BadSample(f"{read.key}: {len(read.images)} pictures, max_images is {self.config.max_images}")
        layout = self.lay_out(read.turns)
        if len(layout) > self.config.max_tokens:
            raise BadSample(
                f"{read.key}: {len(layout)} tokens with its pictures, max_tokens is {self.config.max_tokens}"
            )
        images = [self._square(image) for image in read.images]
        return layout, np.stack(images) if images else None

    def _square(self, image: Pixels) -> Pixels:
        """``[3, size, size]``."""
        image = compose(image, PALETTE[self.config.background]) if image.shape[2] == 4 else image
        return to_chw(to_square(image, self.config.image_size, self.config.crop, np.random.default_rng(0)))
