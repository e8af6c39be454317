"""Batches of conversations: rows of ids, the pictures in them, and random numbers for the pictures to be drawn.

In: layouts of ``chat`` and their pictures. Out: :class:`Conversations`; after the frozen networks :class:`Seen`. Rows
are filled up on the right, which needs no mask: attention is causal, so nothing that is learned ever looks there.
Pictures of all rows lie in two piles, those that are shown and those to be drawn, each in the order of the slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from raekit.autoencoder.base import NoiseSource
from raekit.errors import UserError
from raekit.multimodal.chat import CONTEXT, IGNORE, QUERY, Layout

PICTURE_STRIDE = 1000
"""Between the purposes of the random numbers of a row's first picture and those of its second."""


class Spoken(NamedTuple):
    """One conversation with its pictures.

    Attributes:
        layout: its ids and labels.
        images: ``[M,3,H,W]``, uint8 or float in [0, 1], in the order of the conversation; None if it has none.
        position: of the sample in the data stream.
    """

    layout: Layout
    images: Tensor | None = None
    position: int = 0


class Counts(NamedTuple):
    """What the losses are averaged over."""

    words: float
    pictures: float


@dataclass(frozen=True)
class Conversations:
    """``B`` conversations, ``M`` pictures shown and ``K`` to be drawn.

    Attributes:
        ids: ``[B, L]`` int64, slots included.
        labels: ``[B, L]`` int64.
        shown: images ``[M,3,H,W]``; None without any.
        drawn: images ``[K,3,H,W]``; None without any.
        rows: ``[K]`` int64, the conversation that each drawn picture belongs to.
        places: ``[K]`` int64, the how manieth of that conversation it is, from 0.
        positions: ``[B]`` int64, of the samples in the data stream.
    """

    ids: Tensor
    labels: Tensor
    shown: Tensor | None
    drawn: Tensor | None
    rows: Tensor
    places: Tensor
    positions: Tensor

    @property
    def counts(self) -> Counts:
        """Words that are learned, and pictures to be drawn."""
        return Counts(float((self.labels[:, 1:] != IGNORE).sum()), float(len(self.rows)))


@dataclass(frozen=True)
class Seen:
    """A batch after the frozen networks.

    Attributes:
        batch: the conversations.
        tokens: ``[M,N,D]`` of the pictures that are shown.
        latents: ``[K,C,h,w]`` of those to be drawn.
    """

    batch: Conversations
    tokens: Tensor | None
    latents: Tensor | None


def collate(samples: Sequence[Spoken], padding: int, length: int | None = None) -> Conversations:
    """Conversations as one batch.

    Args:
        samples: at least one.
        padding: id behind the end of a row.
        length: of the rows; by default that of the longest.

    Raises:
        UserError: a conversation that is longer, or with another number of pictures than it has slots for.
    """
    longest = max(len(sample.layout) for sample in samples)
    length = length or longest
    if longest > length:
        raise UserError(
            f"conversation: {longest} tokens with its pictures, at most {length} fit; leave it out or cut it"
        )
    piles: dict[int, list[Tensor]] = {CONTEXT: [], QUERY: []}
    owners: list[tuple[int, int]] = []
    for row, (layout, images, _) in enumerate(samples):
        found = 0 if images is None else len(images)
        if found != len(layout.pictures):
            raise UserError(
                f"conversation: {found} pictures for {len(layout.pictures)} places; give one for each <image>"
            )
        for kind, image in zip(layout.pictures, () if images is None else images, strict=True):
            piles[kind].append(image)
        owners += [(row, place) for place in range(layout.pictures.count(QUERY))]
    rows, places = torch.tensor(owners, dtype=torch.int64).view(-1, 2).unbind(1)
    return Conversations(
        torch.tensor([_filled_up(sample.layout.ids, length, padding) for sample in samples]),
        torch.tensor([_filled_up(sample.layout.labels, length, IGNORE) for sample in samples]),
        _stacked(piles[CONTEXT]),
        _stacked(piles[QUERY]),
        rows,
        places,
        torch.tensor([sample.position for sample in samples]),
    )


class PictureDraws:
    """The random numbers of a batch's conversations, dealt to the pictures to be drawn in them.

    They are the conversation's own: a picture's do not change with what else is in the batch.

    Args:
        draws: of the ``B`` conversations.
        rows: ``[K]``, as in :class:`Conversations`.
        places: ``[K]``, as in :class:`Conversations`.
    """

    def __init__(self, draws: NoiseSource, rows: Tensor, places: Tensor) -> None:
        self.draws = draws
        self.owners = list(zip(rows.tolist(), places.tolist(), strict=True))

    def uniform(self, purpose: int) -> Tensor:
        """``[K]`` in [0, 1)."""
        return self._deal(purpose, self.draws.uniform)

    def normal(self, purpose: int, shape: Sequence[int] = ()) -> Tensor:
        """``[K, *shape]`` standard normal."""
        return self._deal(purpose, lambda number: self.draws.normal(number, shape))

    def _deal(self, purpose: int, draw: Callable[[int], Tensor]) -> Tensor:
        table = {place: draw(purpose + PICTURE_STRIDE * place) for place in {place for _, place in self.owners}}
        return torch.stack([table[place][row] for row, place in self.owners])


def _filled_up(row: list[int], length: int, value: int) -> list[int]:
    return row + [value] * (length - len(row))


def _stacked(pictures: list[Tensor]) -> Tensor | None:
    return torch.stack(pictures) if pictures else None
