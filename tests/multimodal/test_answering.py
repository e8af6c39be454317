"""The settings of answers: their ranges, and the two forms they have."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from raekit.multimodal.answering import MAX_ANSWER_TOKENS, Answering, AnsweringOptions


def test_by_default_the_likeliest_words_as_published() -> None:
    assert Answering().temperature == 0
    assert Answering().max_tokens == MAX_ANSWER_TOKENS == 64


def test_both_forms_have_the_same_fields() -> None:
    assert set(Answering.model_fields) == set(AnsweringOptions.__annotations__)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.1}, {"seed": -1}]
)
def test_ranges(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Answering(**wrong)
