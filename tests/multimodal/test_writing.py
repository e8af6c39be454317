"""Writing against transformers' own, and the choice of words against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from raekit.multimodal.chat import CONTEXT
from raekit.multimodal.writing import drawn, likeliest, self_certainty, write
from tiny_language_model import build_model
from tiny_unified import conditioner

ROWS = [[5, 17, 33, 80], [5, 17, 90]]


def test_the_likeliest_words_are_those_of_transformers() -> None:
    own, model = conditioner(), build_model()
    model.resize_token_embeddings(len(own.chat.tokenizer), mean_resizing=False)
    model.load_state_dict(
        {f"model.{key}": value for key, value in own.reader.state_dict().items()}
        | {"lm_head.weight": own._frozen_head().weight}
    )
    written = write(own, ROWS, max_tokens=12)
    for row, ids in zip(ROWS, written.ids, strict=True):
        theirs = model.generate(
            torch.tensor([row]), max_new_tokens=12, do_sample=False, eos_token_id=own.chat.turn_end, pad_token_id=0
        )
        assert ids == theirs[0, len(row) :].tolist()


def test_logits_and_confidence_are_of_the_word_that_was_taken() -> None:
    own = conditioner()
    shown = torch.randn(1, 16, 32)
    row = [5, *[CONTEXT] * 16, 7]
    written = write(own, [row], 4, shown)
    states = own.read(own.embed(torch.tensor([row + written.ids[0]]), shown))
    logits = own.logits(states)[0, len(row) - 1 : -1]
    taken = logits.gather(1, torch.tensor(written.ids[0])[:, None])[:, 0]
    torch.testing.assert_close(written.logits[0], taken, rtol=0, atol=1e-4)
    torch.testing.assert_close(written.confidence[0], self_certainty(logits), rtol=0, atol=1e-4)


def test_a_row_ends_where_it_is_told_to() -> None:
    own = conditioner()
    whole = write(own, ROWS, 8)
    stop = whole.ids[0][2]
    first = whole.ids[0].index(stop) + 1
    ended = write(own, ROWS, 8, stop=[stop])
    assert ended.ids[0] == whole.ids[0][:first]
    assert ended.ids[1] == (whole.ids[1] if stop not in whole.ids[1] else whole.ids[1][: whole.ids[1].index(stop) + 1])
    assert not ended.logits[0, first:].any() and not ended.confidence[0, first:].any()
    assert write(own, ROWS[:1], 8, stop=[stop]).ids == ended.ids[:1]


def test_drawn_words_are_a_rows_own() -> None:
    own = conditioner()
    together = write(own, ROWS, 6, choose=drawn(1.0, 1.0, [3, 4]))
    assert write(own, ROWS[1:], 6, choose=drawn(1.0, 1.0, [4])).ids == together.ids[1:]
    assert write(own, ROWS, 6, choose=drawn(1e-4, 1.0, [3, 4])).ids == write(own, ROWS, 6).ids


def test_words_are_drawn_with_their_probability() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(4000, 3)
    counts = drawn(1.0, 1.0, range(4000))(logits).bincount(minlength=3) / 4000
    torch.testing.assert_close(counts, torch.tensor([0.1, 0.6, 0.3]), rtol=0, atol=0.03)
    # Squared and normalised again: 1, 36 and 9 of 46.
    colder = drawn(0.5, 1.0, range(4000))(logits).bincount(minlength=3) / 4000
    torch.testing.assert_close(colder, torch.tensor([1.0, 36.0, 9.0]) / 46, rtol=0, atol=0.03)


def test_the_nucleus_is_what_reaches_top_p() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(2000, 3)
    counts = drawn(1.0, 0.7, range(2000))(logits).bincount(minlength=3) / 2000
    torch.testing.assert_close(counts, torch.tensor([0.0, 2 / 3, 1 / 3]), rtol=0, atol=0.04)
    assert drawn(1.0, 0.6, range(50))(logits[:50]).eq(1).all()
    assert likeliest(logits[:1]).item() == 1


@pytest.mark.parametrize("size", [2, 7])
def test_self_certainty_is_the_divergence_from_knowing_nothing(size: int) -> None:
    assert self_certainty(torch.full((3, size), 5.0)).abs().max() < 1e-6
    # Of two words with probabilities p and 1 - p: -(log 2p + log 2(1 - p)) / 2.
    p = torch.tensor([0.5, 0.9, 0.1])
    expected = -(4 * p * (1 - p)).log() / 2
    torch.testing.assert_close(self_certainty(torch.stack([p, 1 - p], -1).log()), expected, rtol=0, atol=1e-6)


def test_self_certainty_of_peaked_logits_is_finite() -> None:
    logits = torch.tensor([0.0, 1000.0])
    assert self_certainty(logits).item() == pytest.approx(500 - math.log(2), rel=1e-6)
