"""Conversations by position: mixed by weight, the same again, and those passed over that are too much."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_data
from raekit.data.conversations.dataset import ConversationData, ConversationDataConfig
from raekit.errors import UserError


def lay_out(turns: Any) -> list[str]:
    """A token a letter, and ten for a picture."""
    return list("".join(turn.text for turn in turns).replace("<image>", "0123456789"))


def talk(image: list[str], question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns}


def data(folder: Path, **settings: Any) -> ConversationData:
    pictures = tiny_data.pictures(folder / "pictures")
    lines = [talk([], "q", "a" * 30)] * 2
    lines += [talk(["pictures/red_circle.png"] * n, "<image>" * n + "what?", "this") for n in (1, 2, 1)]
    (folder / "talk.jsonl").write_text("\n".join(map(json.dumps, lines)))
    mixture = [
        {"name": "requests", "weight": 3, "source": {"name": "folder", "path": str(pictures)}},
        {"name": "llava", "weight": 1, "path": str(folder / "talk.jsonl")},
    ]
    config = ConversationDataConfig.model_validate({"image_size": 16, "mixture": mixture, "max_tokens": 90, **settings})
    return ConversationData(config, lay_out)


def test_sources_stand_side_by_side_by_weight(tmp_path: Path) -> None:
    found = data(tmp_path)
    talks = [found[position] for position in range(40)]
    assert Counter(talk.domain for talk in talks) == found.mixture.counts(40) == {"requests": 30, "llava": 10}
    assert [talk.position for talk in talks] == list(range(40))
    drawn = next(talk for talk in talks if talk.domain == "requests")
    assert drawn.images is not None and drawn.images.shape == (1, 3, 16, 16) and drawn.images.dtype == np.uint8
    assert any(talk.images is None for talk in talks)


def test_the_same_position_is_the_same_conversation(tmp_path: Path) -> None:
    first, second = data(tmp_path), data(tmp_path)
    forwards = [first[position].turns for position in range(12)]
    assert [second[position].turns for position in reversed(range(12))] == forwards[::-1]
    # After an epoch the same pictures are asked for in other words.
    texts = {first[n].turns[0].text for n in range(64) if first[n].key == "blue_circle.png"}
    assert len(texts) > 1


def test_too_many_pictures_or_tokens_are_passed_over_and_named(tmp_path: Path) -> None:
    found = data(tmp_path, max_tokens=30)
    llava = [talk for talk in map(found.__getitem__, range(40)) if talk.domain == "llava"]
    assert {talk.turns[0].text for talk in llava} == {"<image>what?"}
    skipped = {one for talk in llava for one in talk.skipped}
    assert {(one.source, one.key) for one in skipped} == {("llava", f"{number:09d}") for number in (1, 2, 4)}
    reasons = set(map(str, skipped))
    assert "000000001: 31 tokens with its pictures, max_tokens is 30" in reasons
    assert "000000004: 2 pictures, max_images is 1" in reasons
    allowed = data(tmp_path, max_images=2)
    assert any(talk.images is not None and len(talk.images) == 2 for talk in map(allowed.__getitem__, range(40)))


def test_a_source_of_which_nothing_can_be_used_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="source 'requests': 100 conversations in a row cannot be used, the last: "):
        data(tmp_path, max_tokens=8)[0]


def test_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        data(tmp_path, background="lilac")
    twice = [{"name": "llava", "path": "x", "domain": "a"}] * 2
    with pytest.raises(UserError, match="domain 'a' is given to 2 sources"):
        data(tmp_path, mixture=twice)
