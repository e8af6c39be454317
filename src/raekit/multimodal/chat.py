"""Conversations as one row of token ids: ChatML around the words, slots for pictures, and which words are learned.

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n
    <|im_start|>user\\n<im_start>[N slots]<im_end>\\nWhat is it?<|im_end|>\\n
    <|im_start|>assistant\\nHere you go: <im_start>[N slots]<im_end><|im_end|>\\n

In: turns whose text holds ``<image>`` wherever a picture belongs. Out: ids and labels. Who speaks decides what a
picture is: in a user's turn it is shown (``CONTEXT`` slots, filled by the projector), in the assistant's it is to be
drawn (``QUERY`` slots, filled by the queries). Mind the two alphabets: ``<|im_start|>`` opens a turn (ChatML's *im* is
*input message*), ``<im_start>`` a picture.

**Labels**, exactly as published. The assistant's turns are learned whole, header and closing newline included, but for
the slots themselves; so the model learns to open a picture, and to close it from the state of the last query. Of the
other turns only ``<|im_start|>``, ``<|im_end|>`` and the newline are. Scale-RAE, appendix A and its released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

# Under their own names: they belong to a chat as much as to the data that it is read from.
from raekit.data.conversations.base import IMAGE as IMAGE
from raekit.data.conversations.base import Turn as Turn
from raekit.errors import UserError

IMAGE_START, IMAGE_END = "<im_start>", "<im_end>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (TURN_START, TURN_END, IMAGE_START, IMAGE_END)
"""What a tokenizer must know as one token each; those that it lacks are added, in this order."""

CONTEXT, QUERY, IGNORE = -200, -201, -100
"""Ids of the slots of a picture that is shown and of one to be drawn, and the label of what is not learned."""

SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class Layout:
    """A conversation as a row of ids.

    Attributes:
        ids: one per position; :data:`CONTEXT` and :data:`QUERY` in the slots of pictures.
        labels: the id where it is learned, else :data:`IGNORE`. The label of a position is what stands *at* it; the
            loss asks the position before for it.
        pictures: what each picture is, in order: :data:`CONTEXT` or :data:`QUERY`.
    """

    ids: list[int]
    labels: list[int]
    pictures: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


class Chat:
    """Lays conversations out.

    Args:
        tokenizer: a transformers tokenizer; it is taught the :data:`SPECIAL_TOKENS` that it lacks.
        num_queries: slots of a picture to be drawn.
        num_context: slots of a picture that is shown; 0 for a model that cannot see.
        system: what the system says before every conversation; None: nothing.

    Attributes:
        newline: id of ``"\\n"``, if that is one token.
        padding: id that fills rows up; what stands there is neither read nor learned.
    """

    def __init__(self, tokenizer: Any, num_queries: int, num_context: int, system: str | None = SYSTEM) -> None:
        teach_special_tokens(tokenizer)
        self.tokenizer, self.system = tokenizer, system
        self.num_slots = {QUERY: num_queries, CONTEXT: num_context}
        self.turn_start, self.turn_end, self.image_start, self.image_end = tokenizer.convert_tokens_to_ids(
            list(SPECIAL_TOKENS)
        )
        newline = self.words("\n")
        self.newline = newline[0] if len(newline) == 1 else None
        self.padding: int = self.turn_end if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def words(self, text: str) -> list[int]:
        """Token ids of a text, nothing added around it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        decoded: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return decoded

    def conversation(self, turns: Sequence[Turn]) -> Layout:
        """A finished conversation, to be learned; the system's turn is put before it.

        Raises:
            UserError: a picture is shown to a model that cannot see.
        """
        parts = [self._turn(turn) for turn in self._with_system(turns)]
        ids, labels, pictures = (list(chain.from_iterable(column)) for column in zip(*parts, strict=True))
        return Layout(ids, labels, tuple(pictures))

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Ids up to where the assistant begins to answer.

        Raises:
            UserError: as :meth:`conversation`.
        """
        return [*self.conversation(turns).ids, self.turn_start, *self.words("assistant\n")]

    def _turn(self, turn: Turn) -> tuple[list[int], list[int], list[int]]:
        """Ids, labels and pictures of one turn."""
        slot = QUERY if turn.role == "assistant" else CONTEXT
        first, *rest = f"{turn.role}\n{turn.text}".split(IMAGE)
        if rest and not self.num_slots[slot]:
            raise UserError(
                "image: this model reads words only; build it with a projector, around a latent space whose encoder "
                "it can see through, or with condition.tower"
            )
        ids = self.words(first)
        for piece in rest:
            ids += [self.image_start, *[slot] * self.num_slots[slot], self.image_end, *self.words(piece)]
        ids = [self.turn_start, *ids, self.turn_end, *self.words("\n")]
        return ids, self._labels(ids, is_heard=slot == CONTEXT), [slot] * len(rest)

    def _with_system(self, turns: Sequence[Turn]) -> list[Turn]:
        is_there = self.system is None or (len(turns) > 0 and turns[0].role == "system")
        return list(turns) if is_there else [Turn("system", str(self.system)), *turns]

    def _labels(self, ids: Sequence[int], is_heard: bool) -> list[int]:
        """Labels of a turn that the model hears, or that it speaks."""
        if is_heard:
            learned = {self.turn_start, self.turn_end, self.newline}
            return [token if token in learned else IGNORE for token in ids]
        return [token if token >= 0 else IGNORE for token in ids]


def teach_special_tokens(tokenizer: Any) -> None:
    """Add those of :data:`SPECIAL_TOKENS` that ``tokenizer`` does not know."""
    from transformers import AddedToken

    known = tokenizer.get_vocab()
    missing = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS if token not in known]
    if missing:
        tokenizer.add_tokens(missing, special_tokens=True)
