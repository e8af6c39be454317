"""Rows filled up, pictures in two piles, and random numbers that stay with their conversation."""

from __future__ import annotations

import pytest
import torch

from raekit.errors import UserError
from raekit.multimodal.batch import PICTURE_STRIDE, PictureDraws, Spoken, collate, packed
from raekit.multimodal.chat import CONTEXT, IGNORE, QUERY, Layout
from raekit.training.draws import Draws

PICTURES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
SAMPLES = [
    Spoken(
        Layout([1, QUERY, 2, CONTEXT, QUERY], [1, IGNORE, 2, IGNORE, IGNORE], (QUERY, CONTEXT, QUERY)), PICTURES[:3], 7
    ),
    Spoken(Layout([5], [5]), None, 8),
    Spoken(Layout([3, QUERY, 4], [IGNORE, IGNORE, 4], (QUERY,)), PICTURES[3:], 9),
]


def test_rows_are_filled_up_and_pictures_sorted() -> None:
    batch = collate(SAMPLES, padding=0)
    assert batch.ids.tolist() == [[1, QUERY, 2, CONTEXT, QUERY], [5, 0, 0, 0, 0], [3, QUERY, 4, 0, 0]]
    assert batch.labels[1].tolist() == [5, *[IGNORE] * 4]
    assert batch.shown.flatten(1)[:, 0].tolist() == [1]
    assert batch.drawn.flatten(1)[:, 0].tolist() == [0, 2, 3]
    assert (batch.rows.tolist(), batch.places.tolist()) == ([0, 0, 2], [0, 1, 0])
    assert batch.positions.tolist() == [7, 8, 9]


def test_the_first_label_is_never_predicted() -> None:
    # Learned: the 2 of the first row and the 4 of the last; the 1 and the 5 have nothing before them.
    assert collate(SAMPLES, 0).counts == (2, 3)


def test_without_pictures() -> None:
    batch = collate(SAMPLES[1:2], 0)
    assert batch.shown is None and batch.drawn is None
    assert batch.rows.shape == batch.places.shape == (0,)


def test_a_given_length() -> None:
    assert collate(SAMPLES, 0, length=8).ids.shape == (3, 8)
    with pytest.raises(UserError, match="conversation: 5 tokens with its pictures, at most 4 fit"):
        collate(SAMPLES, 0, length=4)


def test_another_number_of_pictures_than_places() -> None:
    with pytest.raises(UserError, match="conversation: 2 pictures for 3 places"):
        collate([SAMPLES[0]._replace(images=PICTURES[:2])], 0)
    with pytest.raises(UserError, match="conversation: 0 pictures for 1 places"):
        collate([SAMPLES[2]._replace(images=None)], 0)


def test_draws_of_a_picture_are_its_conversations_own() -> None:
    batch = collate(SAMPLES, 0)
    draws = PictureDraws(Draws(3, batch.positions), batch.rows, batch.places)
    expected = [
        Draws(3, [7]).normal(1, (2,)),
        Draws(3, [7]).normal(1 + PICTURE_STRIDE, (2,)),
        Draws(3, [9]).normal(1, (2,)),
    ]
    assert torch.equal(draws.normal(1, (2,)), torch.cat(expected))
    alone = collate(SAMPLES[2:], 0)
    of_last = PictureDraws(Draws(3, alone.positions), alone.rows, alone.places)
    assert torch.equal(of_last.uniform(0), draws.uniform(0)[2:])
    assert draws.uniform(0).unique().shape == (3,)


def test_short_conversations_share_rows() -> None:
    batch = collate(SAMPLES, padding=0, row_tokens=6)
    assert batch.ids.tolist() == [[1, QUERY, 2, CONTEXT, QUERY], [3, QUERY, 4, 5, 0]]
    # What a conversation begins with is predicted from nothing, so the 5 is not learned.
    assert batch.labels.tolist() == [[1, IGNORE, 2, IGNORE, IGNORE], [IGNORE, IGNORE, 4, IGNORE, IGNORE]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0] * 5, [0, 0, 0, 1, 2]]
    assert batch.counts == collate(SAMPLES, 0).counts
    assert batch.positions.tolist() == [7, 9, 8] and batch.rows.tolist() == [0, 0, 1]
    assert batch.drawn.flatten(1)[:, 0].tolist() == [0, 2, 3]


def test_rows_are_no_longer_than_their_conversations_and_hold_longer_ones_alone() -> None:
    batch = collate(SAMPLES, padding=0, row_tokens=4)
    assert batch.ids.shape == (2, 5) and batch.positions.tolist() == [7, 9, 8]
    assert collate(SAMPLES, padding=0, row_tokens=100).ids.shape == (1, 9)


def test_rows_are_few_and_about_equally_long() -> None:
    def rows(lengths: list[int], row_tokens: int) -> list[list[int]]:
        found = packed([Spoken(Layout([1] * length, [1] * length)) for length in lengths], row_tokens)
        return [[len(sample.layout) for sample in row] for row in found]

    assert rows([74, 62, 37, 35, 29], 256) == [[74, 62, 37, 35, 29]]
    assert rows([74, 62, 37, 35, 29], 230) == [[74, 35], [62, 37, 29]]
    # Evened out, 3 + 3 + 2 would be too long for one of two rows.
    assert rows([4, 4, 3, 3, 2], 8) == [[4, 4], [3, 3, 2]]
    assert sorted(map(sum, rows([5, 5, 4, 4, 3, 3, 3], 9)))[-1] <= 9
