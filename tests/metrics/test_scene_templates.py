"""The first checker on shapes of our own: right on true pictures, wrong on others, and its thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import tiny_sprites
from raekit.data.palette import GENEVAL_COLOURS
from raekit.data.scene_plan import TASKS, PlannedObject
from raekit.data.scene_prompts import ScenePrompt, planned_prompts, true_picture
from raekit.data.scenes import Scenes
from raekit.metrics.components import Piece
from raekit.metrics.scene_check import ANY, Found, is_right
from raekit.metrics.scene_templates import (
    CONTRASTS,
    MOST_PIECES,
    AttributeChecker,
    TemplateChecker,
    Thresholds,
    calibrated,
    clusters,
    lowest_score,
)
from raekit.metrics.templates import Templates


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return tiny_sprites.scenes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def checker(scenes: Scenes) -> TemplateChecker:
    return TemplateChecker(Templates.of(scenes))


@pytest.fixture(scope="module")
def cases(scenes: Scenes) -> list[tuple[ScenePrompt, np.ndarray]]:
    prompts = [prompt for task in TASKS for prompt in planned_prompts(scenes, "test", task, 4, 0)]
    return [(prompt, true_picture(prompt, scenes, (0, number))[0]) for number, prompt in enumerate(prompts)]


def test_true_pictures_are_right_and_others_wrong(
    checker: TemplateChecker, cases: list[tuple[ScenePrompt, np.ndarray]]
) -> None:
    found = checker.look([image for _, image in cases])
    right = [is_right(prompt, things) for (prompt, _), things in zip(cases, found, strict=True)]
    assert sum(right) >= 23
    shifted = [is_right(prompt, things) for (prompt, _), things in zip(cases, found[4:] + found[:4], strict=True)]
    assert sum(shifted) <= 1


def test_numbers_and_colours_are_told_whatever_the_things_are(
    checker: TemplateChecker, cases: list[tuple[ScenePrompt, np.ndarray]]
) -> None:
    told = [(prompt, image) for prompt, image in cases if prompt.task in ("counting", "colors", "color_attr")]
    found = AttributeChecker(checker).look([image for _, image in told])
    assert {thing.kind for things in found for thing in things} == {ANY}
    other = {"counting": "chair", "colors": "chair", "color_attr": "chair"}  # right of things of another class, too
    renamed = [
        replace(prompt, include=[{**wanted, "class": other[prompt.task]} for wanted in prompt.include])
        for prompt, _ in told
    ]
    assert sum(is_right(prompt, things) for prompt, things in zip(renamed, found, strict=True)) >= len(told) - 2
    numbers = [(prompt, things) for prompt, things in zip(renamed, found, strict=True) if prompt.task == "counting"]
    wrong = [replace(p, include=[{**p.include[0], "count": p.include[0]["count"] + 1}]) for p, _ in numbers]
    assert not any(is_right(prompt, things) for prompt, (_, things) in zip(wrong, numbers, strict=True))


def test_boxes_and_colours_are_the_drawn_ones(checker: TemplateChecker, scenes: Scenes) -> None:
    generator = np.random.default_rng(3)
    objects = (PlannedObject("dog", "red", (0, 0, 0.5, 0.5)), PlannedObject("chair", "blue", (0.5, 0.5, 1, 1)))
    image, truth = scenes.draw(objects, tiny_sprites.STYLE, generator)
    found = {thing.kind: thing for thing in checker.look([image])[0]}
    for thing in truth:
        assert found[thing["class"]].colour == thing["color"]
        np.testing.assert_allclose(np.multiply(found[thing["class"]].box, 64), thing["box"], atol=1)


def test_scissors_in_two_pieces_are_one_thing(scenes: Scenes) -> None:
    """A drawing that falls apart is put together; two drawings side by side are not."""
    halves = np.zeros((40, 40, 4), np.uint8)
    halves[:, :18] = halves[:, 22:] = (180, 40, 90, 255)
    sprites = [("skis", halves), ("dog", scenes.sprite(scenes.sprites[tiny_sprites.STYLE]["dog"][0]))]
    checker = TemplateChecker(Templates(sprites))
    image = np.full((64, 64, 3), 235, np.uint8)
    image[10:50, 14:32] = image[10:50, 36:54] = (180, 40, 90)
    (found,) = checker.look([image])[0]
    assert found.kind == "skis" and found.box == (14 / 64, 10 / 64, 54 / 64, 50 / 64)
    alone = np.full((64, 64, 3), 235, np.uint8)
    (dog,) = (np.asarray(tiny_sprites.sprite("dog").resize((24, 24))),)
    for x in (4, 32):
        alpha = dog[..., 3:] / 255
        alone[20:44, x : x + 24] = (dog[..., :3] * alpha + 235 * (1 - alpha)).astype(np.uint8)
    assert [thing.kind for thing in checker.look([alone])[0]] == ["dog", "dog"]


def test_nothing_is_found_on_bare_ground_and_little_in_noise(checker: TemplateChecker) -> None:
    plain = np.full((64, 64, 3), 200, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    strict = TemplateChecker(checker.templates, Thresholds(score=0.8))
    assert strict.look([plain, noise]) == [[], []]


def test_blur_and_size_are_no_hindrance(checker: TemplateChecker, scenes: Scenes) -> None:
    prompts = planned_prompts(scenes, "test", "single_object", 6, 5)
    pictures = [Image.fromarray(true_picture(p, scenes, (5, i))[0]) for i, p in enumerate(prompts)]
    blurred = [np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8))) for picture in pictures]
    large = [np.asarray(picture.resize((256, 256), Image.Resampling.BICUBIC)) for picture in pictures]
    for images in (blurred, large):
        found = checker.look(images)
        assert sum(is_right(prompt, things) for prompt, things in zip(prompts, found, strict=True)) >= 5


def test_thresholds_are_chosen_on_true_pictures(scenes: Scenes, cases: list[tuple[ScenePrompt, np.ndarray]]) -> None:
    chosen = calibrated(Templates.of(scenes), cases[::4])
    assert chosen.thresholds.contrast in CONTRASTS
    assert 0.5 < chosen.thresholds.score < 1
    found = chosen.look([image for _, image in cases[::4]])
    assert all(thing.score >= chosen.thresholds.score for things in found for thing in things)
    assert chosen.describe() == {"drawings": 11, **vars(chosen.thresholds)}
    assert lowest_score([]) == 0
    assert lowest_score([[Found("dog", GENEVAL_COLOURS[0], (0, 0, 1, 1), 0.7)]]) == pytest.approx(0.7)


def test_pieces_cluster_by_their_gaps() -> None:
    def piece(x: int) -> Piece:
        mask = np.zeros((4, 120), bool)
        mask[:, x : x + 2] = True
        return Piece.of(mask)

    near = clusters([piece(0), piece(10), piece(4), piece(7)], 2)
    assert sorted(len(cluster) for cluster in near) == [4]
    assert sorted(len(cluster) for cluster in clusters([piece(0), piece(10), piece(4)], 2)) == [1, 2]
    (many,) = clusters([piece(x) for x in range(0, 60, 4)], 2)
    assert len(many) == MOST_PIECES and sum(each.area for each in many) == 15 * 8


def test_a_picture_is_looked_at_once(scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = TemplateChecker(Templates.of(scenes))
    image = np.full((32, 32, 3), 255, np.uint8)
    checker.look([image])
    monkeypatch.setattr(checker, "_things", lambda image: pytest.fail("looked again"))
    assert checker.look([image.copy()]) == [[]]
