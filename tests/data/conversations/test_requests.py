"""Requests to draw: wordings, captions, and that chance decides between them and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import tiny_data
from raekit.data.conversations.base import IMAGE
from raekit.data.conversations.requests import TEMPLATES, Requests
from raekit.data.sample import BadSample


def requests(folder: Path, **settings: object) -> Requests:
    source = {"name": "folder", "path": str(tiny_data.pictures(folder / "pictures"))}
    return Requests(Requests.Config.model_validate({"source": source, **settings}))


def test_wordings_vary_with_chance_alone(tmp_path: Path) -> None:
    source = requests(tmp_path)
    talks = [source.conversation(0, np.random.default_rng(seed)) for seed in range(200)]
    texts = Counter(talk.turns[0].text for talk in talks)
    assert len(texts) == 1 + len(TEMPLATES)
    assert 70 < texts["a blue circle"] < 130, "half of them are the caption itself"
    assert all("a blue circle" in text for text in texts)
    assert {talk.turns[1] for talk in talks} == {("assistant", IMAGE)}
    again = source.conversation(0, np.random.default_rng(5))
    assert again.turns == talks[5].turns and np.array_equal(again.images[0], talks[5].images[0])


def test_what_captions_begin_with_is_not_said_twice(tmp_path: Path) -> None:
    source = requests(tmp_path, plain=0.0, templates=["Paint {caption}"])
    (tmp_path / "pictures" / "blue_circle.txt").write_text("A photo of a blue circle")
    assert source.conversation(0, np.random.default_rng(0)).turns[0].text == "Paint a blue circle"


def test_a_picture_without_a_caption_cannot_be_asked_for(tmp_path: Path) -> None:
    source = requests(tmp_path)
    (tmp_path / "pictures" / "blue_circle.txt").write_text(" ")
    with pytest.raises(BadSample, match="blue_circle.png: has no caption"):
        source.conversation(0, np.random.default_rng(0))


@pytest.mark.parametrize("settings", [{"templates": ["draw"]}, {"replies": ["here"]}, {"replies": ["<image><image>"]}])
def test_wordings_without_gaps_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="in it"):
        requests(tmp_path, **settings)
