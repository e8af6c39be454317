"""One conversation, and the contract of everything that yields them.

In: nothing. Out: :class:`Conversation`, turns in which ``<image>`` stands wherever a picture belongs, beside the
pixels of those pictures; :class:`ConversationSource`, which is read by index; and :func:`turns_of`, which reads the
records of LLaVA, Cambrian and Scale-RAE. Who speaks decides what a picture is: in a user's turn it is shown, in the
assistant's it is to be drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raekit.data import DATASETS
from raekit.data.fingerprint import names_digest
from raekit.data.sample import ENDLESS, BadSample, PartConfig, Pixels, Source, SourceConfig
from raekit.errors import UserError

IMAGE = "<image>"
"""Where a picture belongs in a text."""
SPEAKERS: dict[str, Literal["user", "assistant"]] = {"human": "user", "gpt": "assistant"}
"""Who speaks, in the words of the instruction data sets."""


class Turn(NamedTuple):
    """What one side says; ``<image>`` stands for a picture."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Conversation:
    """Turns, and the pictures in them.

    Attributes:
        turns: a user's first; as many ``<image>`` as there are pictures.
        images: uint8 ``[H, W, 3]`` or ``[H, W, 4]``, in the order of their places.
        key: a name that is unique within its source.
    """

    turns: tuple[Turn, ...]
    images: tuple[Pixels, ...] = ()
    key: str = ""


class ConversationConfig(PartConfig):
    """What the settings of every source of conversations have."""

    name: str
    """Which source: a row of :data:`raekit.data.conversations.CONVERSATIONS`."""


class ConversationSource(ABC):
    """A map-style set of conversations: the same index and the same chance give the same conversation."""

    left_out: Mapping[str, str] = {}
    """What was found unusable when the source was opened, so that no index leads to it: why, by its name."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of conversations; ``ENDLESS`` for a source made on the fly."""

    @abstractmethod
    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        """The conversation at ``index`` in ``[0, len)``; wording that may vary is drawn from ``chance``.

        Raises:
            BadSample: this one cannot be read; the others can.
        """

    def key_of(self, index: int) -> str:
        """The name of a conversation, of one that cannot be read too."""
        return str(index)

    @property
    def is_endless(self) -> bool:
        """Whether conversations are made on the fly, so that no index ever has to be repeated."""
        return len(self) >= ENDLESS

    def order(self, seed: Sequence[int]) -> Sequence[int] | NDArray[np.int64]:
        """A random order of all indices of a finite source, the same for the same seed; of an epoch of training."""
        return np.random.default_rng(list(seed)).permutation(len(self))

    def order_fingerprint(self) -> str:
        """Digits that change when an index may lead to another conversation."""
        return names_digest(len(self), self.key_of)


class OfPictures(ConversationSource):
    """Conversations about the pictures of a source; each picture's index is that of its conversation.

    Args:
        settings: of the pictures.
    """

    def __init__(self, settings: SourceConfig) -> None:
        self.source = opened(settings)
        self.left_out = self.source.left_out

    def __len__(self) -> int:
        return len(self.source)

    def key_of(self, index: int) -> str:
        return self.source.key_of(index)

    @property
    def is_endless(self) -> bool:
        return self.source.is_endless

    def order(self, seed: Sequence[int]) -> Sequence[int] | NDArray[np.int64]:
        return self.source.order(seed)

    def order_fingerprint(self) -> str:
        return self.source.order_fingerprint()


def opened(settings: SourceConfig) -> Source:
    """A source of captioned pictures, opened once for all the conversations that are made of it."""
    return _opened(settings.name, settings.model_dump_json(exclude={"weight", "domain"}))


@lru_cache(maxsize=16)
def _opened(name: str, settings: str) -> Source:
    kind = DATASETS[name]
    source: Source = kind(kind.Config.model_validate_json(settings))
    return source


def turns_of(conversation: Sequence[Mapping[str, str]], num_images: int = 0) -> list[Turn]:
    """The turns of a record of the LLaVA kind: ``[{"from": "human" | "gpt", "value": text}, ...]``.

    What the assistant says before anybody asked is left out, and a picture that no text mentions is put before the
    first turn, as published.

    Raises:
        UserError: another speaker, nothing said, or another number of pictures than the texts mention.
    """
    turns = []
    for said in conversation:
        if said.get("from") not in SPEAKERS or "value" not in said:
            raise UserError(f"conversations: {dict(said)!r} is no turn; write a 'from' of human or gpt, and a 'value'")
        turns.append(Turn(SPEAKERS[said["from"]], said["value"]))
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise UserError("conversations: nobody asks anything; begin with a turn from human")
    turns = turns[first:]
    mentioned = sum(turn.text.count(IMAGE) for turn in turns)
    if num_images and not mentioned:
        turns[0], mentioned = Turn("user", f"{IMAGE}\n{turns[0].text}"), 1
    if mentioned != num_images:
        raise UserError(
            f"conversations: {IMAGE} stands {mentioned} times, beside {num_images} pictures; make them equal"
        )
    return turns


def usable_turns(record: object, num_images: int, name: str) -> tuple[Turn, ...]:
    """The turns of whatever stands in a file under ``conversations``.

    Args:
        record: the value, of any kind.
        num_images: pictures beside it.
        name: of the sample, for the message.

    Raises:
        BadSample: it holds no conversation that can be learned from.
    """
    if not isinstance(record, list) or not all(
        isinstance(said, Mapping) and isinstance(said.get("value"), str) for said in record
    ):
        raise BadSample(f"{name}: its conversations are no list of turns, each with 'from' and 'value'")
    try:
        turns = turns_of(record, num_images)
    except UserError as error:
        raise BadSample(f"{name}: {error}") from None
    if not any(turn.role == "assistant" for turn in turns):
        raise BadSample(f"{name}: nobody answers")
    if empty := next((turn for turn in turns if not turn.text.strip()), None):
        raise BadSample(f"{name}: the {empty.role} says nothing")
    return tuple(turns)
