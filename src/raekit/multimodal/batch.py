"""Batches of conversations: rows of ids, the pictures in them, and random numbers for the pictures to be drawn.

In: layouts of ``chat`` and their pictures. Out: :class:`Conversations`; after the frozen networks :class:`Seen`. Rows
are filled up on the right, which needs no mask: attention is causal, so nothing that is learned ever looks there.
Short conversations can share a row (packing): ``segments`` says which position belongs to which, no conversation sees
another, and the losses are those of the same conversations one in each row. Pictures of all rows lie in two piles,
those that are shown and those to be drawn, each in the order of the slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from raekit.autoencoder.base import NoiseSource
from raekit.device import ON_HOST
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
    """What the losses are averaged over; as tensors, where several processes have added theirs."""

    words: float | Tensor
    pictures: float | Tensor


@dataclass(frozen=True)
class Conversations:
    """``B`` conversations in ``R`` rows (as many, unless packed), ``M`` pictures shown and ``K`` to be drawn.

    Attributes:
        ids: ``[R, L]`` int64, slots included.
        labels: ``[R, L]`` int64.
        shown: images ``[M,3,H,W]``; None without any.
        drawn: images ``[K,3,H,W]``; None without any.
        learned: ``[W]`` int64, where labels are learned in all rows, counted through one after another. Nothing that a
            row begins with is.
        queries: ``[K * N]`` int64, where the slots of drawn pictures are, counted alike.
        rows: ``[K]`` int64, the conversation that each drawn picture belongs to.
        places: ``[K]`` int64, the how manieth of that conversation it is, from 0.
        positions: ``[B]`` int64, of the samples in the data stream.
        segments: ``[R, L]`` int64, the how manieth of its row's conversations a position belongs to; what fills a row
            up counts as one more. None where each row holds one.
    """

    ids: Tensor
    labels: Tensor
    shown: Tensor | None
    drawn: Tensor | None
    learned: Tensor
    queries: Tensor
    rows: Tensor = field(metadata=ON_HOST)
    places: Tensor = field(metadata=ON_HOST)
    positions: Tensor = field(metadata=ON_HOST)
    segments: Tensor | None = None

    @property
    def counts(self) -> Counts:
        """Words that are learned, and pictures to be drawn."""
        return Counts(float(len(self.learned)), float(len(self.rows)))


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


def collate(
    samples: Sequence[Spoken], padding: int, length: int | None = None, row_tokens: int | None = None
) -> Conversations:
    """Conversations as one batch.

    Args:
        samples: at least one.
        padding: id behind the end of a row.
        length: of the rows; by default that of the longest.
        row_tokens: pack conversations into rows of at most so many tokens (a longer one has a row to itself); the
            batch then holds them in the order of the rows. None: one in each row, in the order given.

    Raises:
        UserError: a conversation that is longer, or with another number of pictures than it has slots for.
    """
    rows_of = [[sample] for sample in samples] if row_tokens is None else packed(samples, row_tokens)
    samples = [sample for row in rows_of for sample in row]
    longest = max(map(_length, rows_of))
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
    ids = torch.tensor([_filled_up(_joined(row, "ids"), length, padding) for row in rows_of])
    labels = torch.tensor([_filled_up(_joined(row, "labels"), length, IGNORE) for row in rows_of])
    is_learned = labels != IGNORE
    is_learned[:, 0] = False
    return Conversations(
        ids,
        labels,
        _stacked(piles[CONTEXT]),
        _stacked(piles[QUERY]),
        is_learned.flatten().nonzero().flatten(),
        (ids == QUERY).flatten().nonzero().flatten(),
        rows,
        places,
        torch.tensor([sample.position for sample in samples]),
        None if row_tokens is None else torch.tensor([_segments(row, length) for row in rows_of]),
    )


def packed(samples: Sequence[Spoken], row_tokens: int) -> list[list[Spoken]]:
    """Conversations in as few rows of at most ``row_tokens`` as first fit finds, the rows about equally long.

    Longest first, each goes to the shortest row; should one overflow so, each to the first row with room for it.
    """
    ordered = sorted(samples, key=lambda sample: -len(sample.layout))
    limit = max(row_tokens, len(ordered[0].layout))
    rows: list[list[Spoken]] = []
    for sample in ordered:
        room = (row for row in rows if _length(row) + len(sample.layout) <= limit)
        row = next(room, None)
        if row is None:
            rows.append(row := [])
        row.append(sample)
    even: list[list[Spoken]] = [[] for _ in rows]
    for sample in ordered:
        min(even, key=_length).append(sample)
    return even if max(map(_length, even)) <= limit else rows


def _length(row: Sequence[Spoken]) -> int:
    return sum(len(sample.layout) for sample in row)


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


def _joined(row: Sequence[Spoken], name: str) -> list[int]:
    """Ids or labels of a row. What a conversation begins with has nothing before it to be predicted from."""
    joined: list[int] = []
    for sample in row:
        values: list[int] = getattr(sample.layout, name)
        joined += [IGNORE, *values[1:]] if joined and name == "labels" else values
    return joined


def _segments(row: Sequence[Spoken], length: int) -> list[int]:
    numbers = [number for number, sample in enumerate(row) for _ in sample.layout.ids]
    return _filled_up(numbers, length, len(row))


def _stacked(pictures: list[Tensor]) -> Tensor | None:
    return torch.stack(pictures) if pictures else None
