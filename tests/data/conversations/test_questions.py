"""Questions about emoji and scenes: several about one picture, other ones next time, and what cannot be asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_data
import tiny_sprites
from raekit.data.conversations.facts import WORDINGS
from raekit.data.conversations.questions import Questions
from raekit.data.sample import BadSample
from raekit.errors import UserError


def questions(source: dict[str, object], **settings: object) -> Questions:
    return Questions(Questions.Config.model_validate({"source": source, **settings}))


def shards(folder: Path) -> dict[str, object]:
    return {"name": "shards", "path": str(tiny_sprites.shard(folder / "shapes.tar"))}


def test_several_questions_about_one_picture(tmp_path: Path) -> None:
    source = questions(shards(tmp_path), per_image=3)
    assert source.untrue.names == sorted(tiny_sprites.SHAPES) and len(source) == 12
    talk = source.conversation(0, np.random.default_rng(1))
    assert len(talk.images) == 1 and len(talk.turns) == 6
    assert [turn.role for turn in talk.turns] == ["user", "assistant"] * 3
    assert talk.turns[0].text.startswith("<image>\n") and "<image>" not in talk.turns[2].text
    again, other = (source.conversation(0, np.random.default_rng(seed)) for seed in (1, 2))
    assert again.turns == talk.turns != other.turns


def test_for_evaluation_the_wording_is_the_first(tmp_path: Path) -> None:
    source = questions(shards(tmp_path), kinds=["naming"], is_varied=False)
    found = {source.conversation(3, np.random.default_rng(seed)).turns[0].text for seed in range(20)}
    assert found == {f"<image>\n{WORDINGS['naming'][0]}"}


def test_scenes_made_on_the_fly(tmp_path: Path) -> None:
    source = questions({**shards(tmp_path), "name": "scenes", "size": 32, "tasks": ["counting"]}, kinds=["counting"])
    assert source.is_endless and "bus" not in source.untrue.names, "a class of another split"
    talk = source.conversation(5, np.random.default_rng(0))
    assert talk.turns[1].text in ("two", "three", "four")


def test_what_cannot_be_asked_is_a_bad_sample(tmp_path: Path) -> None:
    source = questions(shards(tmp_path), kinds=["counting"])
    with pytest.raises(BadSample, match="no question of kind counting can be asked about it"):
        source.conversation(0, np.random.default_rng(0))


def test_pictures_without_ground_truth_are_refused(tmp_path: Path) -> None:
    path = str(tiny_data.pictures(tmp_path / "pictures"))
    with pytest.raises(UserError, match="samples of 'folder' state neither label_text nor include"):
        questions({"name": "folder", "path": path})
