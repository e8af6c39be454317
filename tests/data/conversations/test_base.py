"""Records of other people's files as turns, and which of them cannot be learned from."""

from __future__ import annotations

import pytest

from raekit.data.conversations.base import turns_of, usable_turns
from raekit.data.sample import BadSample
from raekit.errors import UserError


def record(*said: str) -> list[dict[str, str]]:
    """A record whose turns are ``"human: text"``."""
    return [dict(zip(("from", "value"), text.split(": ", 1), strict=True)) for text in said]


def test_turns_of_a_record() -> None:
    turns = turns_of(record("gpt: hello", "human: <image>\nwhat?", "gpt: sun"), num_images=1)
    assert turns == [("user", "<image>\nwhat?"), ("assistant", "sun")]
    # A picture that no text mentions comes first.
    assert turns_of(record("human: what?", "gpt: sun"), 1)[0] == ("user", "<image>\nwhat?")
    assert turns_of(record("human: what?", "gpt: sun"))[0] == ("user", "what?")
    assert turns_of(record("human: draw", "gpt: <image>"), 1)[0] == ("user", "draw")


@pytest.mark.parametrize(
    ("said", "num_images", "message"),
    [
        (["human: <image>", "gpt: a"], 2, "<image> stands 1 times, beside 2 pictures"),
        (["human: <image>", "gpt: a"], 0, "<image> stands 1 times, beside 0 pictures"),
        (["human: a"], 2, "<image> stands 1 times, beside 2 pictures"),
        (["gpt: a"], 0, "nobody asks anything"),
        ([], 0, "nobody asks anything"),
        (["robot: a"], 0, "write a 'from' of human or gpt"),
    ],
)
def test_a_record_that_cannot_be_used(said: list[str], num_images: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        turns_of(record(*said), num_images)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "x: its conversations are no list of turns"),
        ([{"from": "human", "value": 3}], "x: its conversations are no list of turns"),
        (["hello"], "x: its conversations are no list of turns"),
        (record("human: <image>", "gpt: a"), "x: conversations: <image> stands 1 times, beside 0 pictures"),
        (record("human: a"), "x: nobody answers"),
        ([{"from": "human", "value": "a"}, {"from": "gpt", "value": " "}], "x: the assistant says nothing"),
    ],
)
def test_what_cannot_be_learned_from_is_a_bad_sample(value: object, complaint: str) -> None:
    with pytest.raises(BadSample, match=complaint):
        usable_turns(value, 0, "x")


def test_what_can_be_learned_from() -> None:
    assert usable_turns(record("human: a", "gpt: b"), 0, "x") == (("user", "a"), ("assistant", "b"))
