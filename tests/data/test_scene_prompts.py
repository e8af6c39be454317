"""Prompts say what is true of their pictures; files are read strictly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny_sprites
from raekit.data.scene_plan import TASKS, is_held_out
from raekit.data.scene_prompts import ScenePrompt, planned_prompts, read_prompts, styles_of, true_picture
from raekit.data.scenes import Scenes
from raekit.errors import UserError

LINES = [
    {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"},
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 3}], "exclude": [{}], "prompt": "a photo of three cows"},
    {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "bed", "count": 1, "position": ["above", 0]}],
        "prompt": "a photo of a bed above a cat",
    },
    {
        "tag": "color_attr",
        "include": [{"class": "dog", "count": 1, "color": "red"}, {"class": "cow", "count": 1, "color": "black"}],
        "prompt": "a photo of a red dog and a black cow",
    },
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return tiny_sprites.scenes(tmp_path_factory.mktemp("shapes"), 32)


def written(path: Path, lines: list[object]) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("task", TASKS)
def test_pictures_are_true_of_their_prompts(scenes: Scenes, task: str) -> None:
    for number, prompt in enumerate(planned_prompts(scenes, "test", task, 5, seed=1)):
        image, truth = true_picture(prompt, scenes, (1, number))
        assert image.shape == (32, 32, 3)
        stated = sorted((row["class"], row.get("color")) for row in prompt.include for _ in range(row["count"]))
        assert sorted((thing["class"], thing["color"]) for thing in truth) == stated
        assert prompt.text.startswith("a photo of ") and prompt.task == task
        if "position" in prompt.include[-1]:
            other, thing = (next(t["box"] for t in truth if t["class"] == row["class"]) for row in prompt.include)
            relation = prompt.include[-1]["position"][0]
            axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[relation]
            assert sign * (thing[axis] - other[axis]) > 0


def test_test_prompts_are_of_pairs_that_are_left_out(scenes: Scenes) -> None:
    for prompt in planned_prompts(scenes, "test", "two_object", 10, seed=0):
        assert is_held_out("+".join(sorted(prompt.kinds)))
    assert planned_prompts(scenes, "test", "colors", 4, 3) == planned_prompts(scenes, "test", "colors", 6, 3)[:4]
    assert planned_prompts(scenes, "test", "colors", 4, 3) != planned_prompts(scenes, "test", "colors", 4, 4)


def test_a_file_is_read_as_far_as_the_drawings_reach(scenes: Scenes, tmp_path: Path) -> None:
    prompts, total = read_prompts(written(tmp_path / "a.jsonl", [*LINES, ""]), scenes)
    assert (len(prompts), total) == (4, 5)
    assert [prompt.text for prompt in prompts] == [LINES[i]["prompt"] for i in (0, 2, 3, 4)]
    assert prompts[2].as_json() == LINES[3]
    assert styles_of(prompts[0], scenes) == [tiny_sprites.STYLE]
    assert styles_of(ScenePrompt("single_object", "a bus", ({"class": "bus", "count": 1},)), scenes) == []
    for number, prompt in enumerate(prompts):
        truth = true_picture(prompt, scenes, (0, number))[1]
        assert {thing["class"] for thing in truth} == prompt.kinds


def test_a_picture_depends_on_its_seed_alone(scenes: Scenes) -> None:
    prompt = planned_prompts(scenes, "test", "counting", 1, 0)[0]
    first, again, other = (true_picture(prompt, scenes, seed)[0] for seed in ((0, 1), (0, 1), (0, 2)))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2"),
        ({"tag": "single_object", "prompt": "x"}, "needs tag, include and prompt"),
        ([1], "needs tag, include and prompt"),
        ({"tag": "poetry", "include": [{"class": "dog", "count": 1}], "prompt": "x"}, "is none of GenEval's"),
        ({"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "teal"}], "prompt": "x"}, "color is none"),
        ({"tag": "counting", "include": [{"class": "dog", "count": 9}], "prompt": "x"}, "no counting scene shows"),
        ({"tag": "two_object", "include": [{"class": "dog", "count": 1}], "prompt": "x"}, "no two_object scene shows"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(scenes: Scenes, tmp_path: Path, line: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_prompts(written(tmp_path / "bad.jsonl", [LINES[0], line]), scenes)


def test_a_file_that_is_not_there(scenes: Scenes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .* give GenEval's evaluation_metadata.jsonl"):
        read_prompts(tmp_path / "none.jsonl", scenes)
