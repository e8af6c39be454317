from __future__ import annotations

import numpy as np
import pytest

from raekit.data.scene_plan import TASKS, assorted, plan_of, plan_scene
from raekit.data.words import is_held_out
from raekit.errors import UserError

KINDS = [f"kind{number}" for number in range(30)]


def plans(task: str, split: str = "train", count: int = 60):
    return [plan_scene(task, KINDS, split, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("task", TASKS)
def test_cells_never_overlap_and_lie_inside(task: str) -> None:
    for plan in plans(task):
        cells = [thing.cell for thing in plan.objects]
        for left, top, right, bottom in cells:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
        for i, a in enumerate(cells):
            for b in cells[:i]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("task", TASKS)
def test_the_stated_objects_are_the_planned_ones(task: str) -> None:
    for plan in plans(task):
        drawn = sorted(thing.kind for thing in plan.objects)
        stated = sorted(row["class"] for row in plan.include for _ in range(row["count"]))
        assert drawn == stated
        assert plan.task == task


def test_a_relation_is_true_of_the_cells() -> None:
    axis = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    seen = set()
    for plan in plans("position"):
        first, second = plan.objects
        relation, other = plan.include[1]["position"]
        assert other == 0
        assert plan.caption == f"a {first.kind} {relation} a {second.kind}"
        dimension, sign = axis[relation]
        assert np.sign(first.cell[dimension] - second.cell[dimension]) == sign
        seen.add(relation)
    assert seen == set(axis)


def test_counts_run_from_two_to_four() -> None:
    assert {len(plan.objects) for plan in plans("counting")} == {2, 3, 4}
    assert {plan.caption.split()[0] for plan in plans("counting")} == {"two", "three", "four"}


def test_colours_are_stated_and_differ() -> None:
    for plan in plans("color_attr"):
        first, second = plan.objects
        assert first.colour != second.colour
        assert f"{first.colour} {first.kind} and" in plan.caption


@pytest.mark.parametrize("task", ["two_object", "position"])
def test_pairs_of_the_test_split_are_never_trained_on(task: str) -> None:
    train = {"+".join(sorted(thing.kind for thing in plan.objects)) for plan in plans(task)}
    test = {"+".join(sorted(thing.kind for thing in plan.objects)) for plan in plans(task, "test")}
    assert not any(map(is_held_out, train))
    assert all(map(is_held_out, test))


def test_a_vocabulary_without_held_out_pairs_is_refused() -> None:
    pair = next([a, b] for a in KINDS for b in KINDS if a < b and not is_held_out(f"{a}+{b}"))
    with pytest.raises(UserError, match="use more sprites"):
        plan_scene("two_object", pair, "test", np.random.default_rng(0))


@pytest.mark.parametrize("task", TASKS)
def test_what_a_scene_includes_can_be_planned_again(task: str) -> None:
    for number, plan in enumerate(plans(task, count=10)):
        again = plan_of(task, plan.include, np.random.default_rng(number))
        assert again.include == plan.include
        assert again.caption == plan.caption


def test_what_no_scene_includes_is_refused() -> None:
    dog = {"class": "dog", "count": 1}
    for task, include in (("counting", [{**dog, "count": 7}]), ("two_object", [dog]), ("single_object", [dog, dog])):
        with pytest.raises(UserError, match=f"no {task} scene shows"):
            plan_of(task, include, np.random.default_rng(0))


def test_assorted_scenes_hold_every_class_plain_and_coloured() -> None:
    scenes = list(assorted(KINDS[:7], np.random.default_rng(0)))
    things = [thing for scene in scenes for thing in scene]
    assert sorted(thing.kind for thing in things if thing.colour is None) == sorted(KINDS[:7])
    assert sorted(thing.kind for thing in things if thing.colour is not None) == sorted(KINDS[:7])
    assert [len(scene) for scene in scenes] == [4, 4, 4, 2]
    assert all(len({thing.cell for thing in scene}) == len(scene) for scene in scenes)
