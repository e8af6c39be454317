"""The rules of right and wrong, on things that were found in no picture."""

from __future__ import annotations

from typing import Any

import pytest

from raekit.data.scene_prompts import ScenePrompt
from raekit.metrics.scene_check import Found, is_placed, is_right


def at(x: float, y: float, kind: str = "dog", colour: str = "red", side: float = 0.2) -> Found:
    return Found(kind, colour, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), 1.0)


def prompt(task: str, *include: dict[str, Any]) -> ScenePrompt:
    return ScenePrompt(task, "words", tuple({"count": 1, **wanted} for wanted in include))


DOG, CAT = at(0.2, 0.5), at(0.8, 0.5, "cat", "blue")


@pytest.mark.parametrize(
    ("asked", "found", "right"),
    [
        (prompt("single_object", {"class": "dog"}), [DOG], True),
        (prompt("single_object", {"class": "dog"}), [DOG, CAT], True),
        (prompt("single_object", {"class": "dog"}), [CAT], False),
        (prompt("single_object", {"class": "dog"}), [], False),
        (prompt("two_object", {"class": "dog"}, {"class": "cat"}), [CAT, DOG], True),
        (prompt("two_object", {"class": "dog"}, {"class": "cat"}), [DOG, DOG], False),
        (prompt("counting", {"class": "dog", "count": 2}), [DOG, DOG, CAT], True),
        (prompt("counting", {"class": "dog", "count": 2}), [DOG], False),
        (prompt("counting", {"class": "dog", "count": 2}), [DOG, DOG, DOG], False),
        (prompt("colors", {"class": "dog", "color": "red"}), [DOG], True),
        (prompt("colors", {"class": "dog", "color": "blue"}), [DOG, CAT], False),
        (prompt("color_attr", {"class": "dog", "color": "red"}, {"class": "cat", "color": "blue"}), [DOG, CAT], True),
        (prompt("color_attr", {"class": "dog", "color": "blue"}, {"class": "cat", "color": "red"}), [DOG, CAT], False),
        (prompt("position", {"class": "cat"}, {"class": "dog", "position": ["left of", 0]}), [DOG, CAT], True),
        (prompt("position", {"class": "cat"}, {"class": "dog", "position": ["right of", 0]}), [DOG, CAT], False),
        (prompt("position", {"class": "cat"}, {"class": "dog", "position": ["left of", 0]}), [DOG], False),
    ],
)
def test_verdicts(asked: ScenePrompt, found: list[Found], right: bool) -> None:
    assert is_right(asked, found) is right


@pytest.mark.parametrize(
    ("x", "y", "relations"),
    [
        (0.9, 0.5, {"right of"}),
        (0.1, 0.5, {"left of"}),
        (0.5, 0.1, {"above"}),
        (0.5, 0.9, {"below"}),
        (0.9, 0.9, {"right of", "below"}),  # 45 degrees lie within both cones
        (0.53, 0.5, set()),  # hardly beside it
        (0.9, 0.6, {"right of"}),
    ],
)
def test_relations(x: float, y: float, relations: set[str]) -> None:
    middle = at(0.5, 0.5)
    found = {name for name in ("left of", "right of", "above", "below") if is_placed(at(x, y), name, middle)}
    assert found == relations
