"""Reading piece by piece, shared and padded, against reading each row by itself in one piece."""

from __future__ import annotations

import pytest
import torch

from raekit.errors import UserError
from raekit.multimodal.chat import CONTEXT
from raekit.multimodal.session import Session, begin, shared_length
from tiny_unified import conditioner

SHOWN = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
ROWS = [[1, 2, 3, *[CONTEXT] * 16, 4, 5, 6, 7], [1, 2, 3, *[CONTEXT] * 16, 9]]


def test_what_rows_begin_with_ends_at_a_picture_a_difference_or_the_last_id() -> None:
    assert shared_length(ROWS) == 3
    assert shared_length([[1, 2, 3], [1, 5, 3]]) == 1
    assert shared_length([[1, 2], [1, 2], [1, 2]]) == 1
    assert shared_length([[1, 2], [3, 2]]) == 0
    assert shared_length(ROWS[:1]) == 0


@pytest.mark.parametrize("is_llm_trained", [True, False])
def test_shared_and_padded_rows_have_the_states_of_single_ones(is_llm_trained: bool) -> None:
    own = conditioner(is_llm_trained=is_llm_trained)
    session, states = begin(own, ROWS, SHOWN)
    assert states.shape == (2, 20, 32) and session.mask.sum(1).tolist() == [23, 20]
    for row, shown, found in zip(ROWS, SHOWN, states, strict=True):
        whole = own.read(own.embed(torch.tensor([row]), shown[None]))[0, 3:]
        torch.testing.assert_close(found[-len(whole) :], whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("is_llm_trained", "is_rounded"), [(True, True), (False, False)])
def test_what_a_trained_model_reads_is_multiplied_as_its_generator_multiplies(
    is_llm_trained: bool, is_rounded: bool
) -> None:
    own = conditioner(is_llm_trained=is_llm_trained)
    exact = begin(own, ROWS, SHOWN)[1]
    own.precision = "bf16"
    found = begin(own, ROWS, SHOWN)[1]
    assert found.dtype == torch.float32 and torch.equal(found, exact) != is_rounded
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_rows_with_nothing_in_common() -> None:
    own = conditioner()
    rows = [[8, 1], [1, 2, 3]]
    _, states = begin(own, rows)
    for row, found in zip(rows, states, strict=True):
        whole = own.read(own.embed(torch.tensor([row])))[0]
        torch.testing.assert_close(found[-len(row) :], whole, rtol=0, atol=1e-5)


def test_the_next_piece_continues_every_row() -> None:
    own = conditioner()
    session, _ = begin(own, ROWS, SHOWN)
    states = session.read(own.embed(torch.tensor([[11, 12], [13, 14]])))
    for row, shown, more, found in zip(ROWS, SHOWN, ([11, 12], [13, 14]), states, strict=True):
        whole = own.read(own.embed(torch.tensor([row + more]), shown[None]))[0]
        torch.testing.assert_close(found, whole[-2:], rtol=0, atol=1e-5)


def test_a_beginning_is_read_once() -> None:
    own, lengths = conditioner(), []
    own.reader.register_forward_pre_hook(
        lambda _, __, inputs: lengths.append(list(inputs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    begin(own, [[*range(40), 41 + number] for number in range(8)])
    assert lengths == [[1, 40], [8, 1]]


def test_more_than_the_language_model_reads() -> None:
    own = conditioner()
    session = Session(own)
    session.read(torch.zeros(1, 500, 32))
    with pytest.raises(UserError, match="513 tokens long, and this language model reads 512"):
        session.read(torch.zeros(1, 13, 32))
