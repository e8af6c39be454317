from __future__ import annotations

import numpy as np
import pytest

from raekit.data.palette import PALETTE
from raekit.data.scene_plan import TASKS, PlannedObject
from raekit.data.scenes import Scenes, draw_background, place, tint
from raekit.errors import UserError


@pytest.fixture
def scenes(sprite_shard) -> Scenes:
    return Scenes(Scenes.Config(path=sprite_shard, size=64))


def test_an_index_is_always_the_same_scene(scenes, sprite_shard) -> None:
    again = Scenes(Scenes.Config(path=sprite_shard, size=64))
    assert np.array_equal(scenes[5].image, again[5].image)
    assert scenes[5].metadata == again[5].metadata
    assert scenes[5].metadata != scenes[6].metadata
    assert scenes.is_endless


def test_every_task_comes_up_and_tells_the_truth(scenes) -> None:
    seen = set()
    for index in range(60):
        sample = scenes[index]
        seen.add(sample.metadata["tag"])
        assert sample.image.shape == (64, 64, 3)
        assert sample.caption.startswith("a picture of ")
        assert sum(row["count"] for row in sample.metadata["include"]) == len(sample.metadata["objects"])
    assert seen == set(TASKS)


def test_boxes_hold_the_objects(scenes) -> None:
    """Outside of all boxes there is nothing but the background: bare, or one even ramp."""
    for index in range(20):
        sample = scenes[index]
        outside = np.ones((64, 64), bool)
        for thing in sample.metadata["objects"]:
            left, top, right, bottom = thing["box"]
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
            outside[top:bottom, left:right] = False
            inside = sample.image[top:bottom, left:right].reshape(-1, 3).astype(int)
            assert np.ptp(inside, axis=0).max() > 20
        shades = sample.image.astype(int)
        steps = [np.abs(np.diff(shades, axis=axis)).max(axis=2) for axis in (0, 1)]
        assert steps[0][outside[1:] & outside[:-1]].max() <= 6
        assert steps[1][outside[:, 1:] & outside[:, :-1]].max() <= 6


def test_tasks_can_be_chosen(sprite_shard) -> None:
    chosen = Scenes(Scenes.Config(path=sprite_shard, size=32, tasks=("counting",)))
    assert {chosen[index].metadata["tag"] for index in range(10)} == {"counting"}


def test_a_broader_vocabulary(sprite_shard) -> None:
    assert "dog" in Scenes(Scenes.Config(path=sprite_shard, vocabulary="objects")).sprites["round emoji"]


def test_shards_without_sprites_are_refused(write_shard) -> None:
    with pytest.raises(UserError, match="no style there draws two classes"):
        Scenes(Scenes.Config(path=write_shard()))


@pytest.mark.parametrize("colour", sorted(PALETTE))
def test_a_tint_gives_the_middle_tone_its_colour(colour: str) -> None:
    sprite = np.zeros((3, 3, 4), np.uint8)
    sprite[..., :3], sprite[..., 3] = 120, 255
    sprite[0, 0, :3], sprite[2, 2, :3] = 10, 250
    painted = tint(sprite, PALETTE[colour])
    assert np.abs(painted[1, 1].astype(int) - PALETTE[colour]).max() <= 1
    assert painted[0, 0].sum() <= painted[1, 1].sum() <= painted[2, 2].sum()


def test_placing_keeps_to_the_cell(scenes) -> None:
    sprite = np.full((20, 40, 4), 255, np.uint8)
    for seed in range(30):
        canvas = np.zeros((64, 64, 3), np.uint8)
        thing = PlannedObject("x", None, (0.5, 0, 1, 0.5))
        left, top, right, bottom = place(canvas, sprite, thing, np.random.default_rng(seed))
        assert 32 <= left < right <= 64
        assert 0 <= top < bottom <= 32
        assert (canvas[top:bottom, left:right] == 255).all()
        assert canvas.sum() == 3 * 255 * (right - left) * (bottom - top)


def test_the_ground_is_pale_unless_something_is_white() -> None:
    for seed in range(10):
        assert draw_background(16, {None}, np.random.default_rng(seed)).max() > 215
        assert draw_background(16, {"white"}, np.random.default_rng(seed)).max() < 160
