"""What a composed scene shows, before anything is drawn: GenEval's six tasks as objects, places and words.

In: the classes at hand and a seeded generator. Out: a :class:`ScenePlan`: which objects, in which colours and cells,
and the caption that is true of them (GenEval, Ghosh et al. 2023, section 3). Combinations are held out by name, so a
model can be asked for pairs of things that it never saw together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raekit.data.captions import counted, with_article
from raekit.data.palette import GENEVAL_COLOURS
from raekit.data.words import is_held_out
from raekit.errors import UserError

Task = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TASKS: tuple[Task, ...] = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

Cell = tuple[float, float, float, float]
"""Left, top, right, bottom in the unit square."""

RELATIONS = ("left of", "right of", "above", "below")
_LEFT_RIGHT: tuple[Cell, Cell] = ((0.0, 0.2, 0.5, 0.8), (0.5, 0.2, 1.0, 0.8))
_ABOVE_BELOW: tuple[Cell, Cell] = ((0.2, 0.0, 0.8, 0.5), (0.2, 0.5, 0.8, 1.0))
_QUARTERS: tuple[Cell, ...] = ((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1))

MAX_ATTEMPTS = 1000
"""Draws of a combination before the vocabulary is taken to hold none of the split asked for."""


@dataclass(frozen=True)
class PlannedObject:
    """One thing in the scene: its class, its tint if any, and the cell that it must stay in."""

    kind: str
    colour: str | None
    cell: Cell


@dataclass(frozen=True)
class ScenePlan:
    """A scene to be drawn.

    Attributes:
        task: one of GenEval's tags.
        objects: what to draw; cells never overlap.
        caption: words that are true of it, without a lead such as "a photo of".
        include: the same as GenEval's metadata states it.
    """

    task: Task
    objects: tuple[PlannedObject, ...]
    caption: str
    include: list[dict[str, Any]]


def plan_scene(task: Task, kinds: Sequence[str], split: str, generator: np.random.Generator) -> ScenePlan:
    """Choose objects, colours and cells for ``task`` from ``kinds`` (at least two).

    Raises:
        UserError: no combination of ``kinds`` belongs to ``split``.
    """
    for _ in range(MAX_ATTEMPTS):
        chosen = [str(kind) for kind in generator.choice(kinds, 2, replace=False)]
        colours = [str(colour) for colour in generator.choice(GENEVAL_COLOURS, 2, replace=False)]
        if all(is_held_out(name) == (split == "test") for name in _combinations(task, chosen, colours)):
            return _PLANNERS[task](chosen, colours, generator)
    raise UserError(f"scenes split {split!r}: {len(kinds)} classes hold no such pair for {task}; use more sprites")


def assorted(kinds: Sequence[str], generator: np.random.Generator) -> Iterator[tuple[PlannedObject, ...]]:
    """Every class once as it is and once in some colour, in scenes of up to four that belong to no task."""
    things = [(kind, None) for kind in kinds] + [(kind, str(generator.choice(GENEVAL_COLOURS))) for kind in kinds]
    order = generator.permutation(len(things))
    for first in range(0, len(things), len(_QUARTERS)):
        chosen = [things[i] for i in order[first : first + len(_QUARTERS)]]
        yield tuple(PlannedObject(kind, colour, cell) for (kind, colour), cell in zip(chosen, _QUARTERS, strict=False))


def plan_of(task: Task, include: Sequence[dict[str, Any]], generator: np.random.Generator) -> ScenePlan:
    """A scene of exactly ``include``, as GenEval's metadata states it; where its things stand is left to chance.

    Raises:
        UserError: no scene of this task shows that.
    """
    kinds = [wanted["class"] for wanted in include]
    # In a relation, the thing that is spoken of first is listed last.
    chosen = kinds[::-1] if task == "position" else kinds
    colours = [wanted.get("color", "") for wanted in include]
    for _ in range(MAX_ATTEMPTS if len(include) == _SIZES[task] else 0):
        plan = _PLANNERS[task](chosen, colours, generator)
        if plan.include == list(include):
            return plan
    raise UserError(f"scenes: no {task} scene shows {list(include)}; see GenEval's metadata for what one holds")


def _combinations(task: Task, kinds: Sequence[str], colours: Sequence[str]) -> list[str]:
    """The names by which combinations are held out; single objects and counts have none and are always allowed."""
    if task in ("two_object", "position"):
        return ["+".join(sorted(kinds))]
    if task == "colors":
        return [f"{colours[0]} {kinds[0]}"]
    if task == "color_attr":
        return [f"{colour} {kind}" for colour, kind in zip(colours, kinds, strict=True)]
    return []


def _single(kinds: Sequence[str], colours: Sequence[str], generator: np.random.Generator) -> ScenePlan:
    thing = PlannedObject(kinds[0], None, (0, 0, 1, 1))
    return ScenePlan("single_object", (thing,), with_article(kinds[0]), [_included(kinds[0])])


def _colours(kinds: Sequence[str], colours: Sequence[str], generator: np.random.Generator) -> ScenePlan:
    thing = PlannedObject(kinds[0], colours[0], (0, 0, 1, 1))
    caption = with_article(f"{colours[0]} {kinds[0]}")
    return ScenePlan("colors", (thing,), caption, [_included(kinds[0], color=colours[0])])


def _two(kinds: Sequence[str], colours: Sequence[str], generator: np.random.Generator) -> ScenePlan:
    things = _side_by_side(kinds, (None, None), generator)
    caption = f"{with_article(kinds[0])} and {with_article(kinds[1])}"
    return ScenePlan("two_object", things, caption, [_included(kind) for kind in kinds])


def _coloured_pair(kinds: Sequence[str], colours: Sequence[str], generator: np.random.Generator) -> ScenePlan:
    things = _side_by_side(kinds, colours, generator)
    named = [with_article(f"{colour} {kind}") for colour, kind in zip(colours, kinds, strict=True)]
    include = [_included(kind, color=colour) for colour, kind in zip(colours, kinds, strict=True)]
    return ScenePlan("color_attr", things, " and ".join(named), include)


def _counting(kinds: Sequence[str], colours: Sequence[str], generator: np.random.Generator) -> ScenePlan:
    number = int(generator.integers(2, 5))
    cells = [_QUARTERS[i] for i in generator.choice(4, number, replace=False)]
    things = tuple(PlannedObject(kinds[0], None, cell) for cell in cells)
    return ScenePlan("counting", things, counted(number, kinds[0]), [_included(kinds[0], count=number)])


def _position(kinds: Sequence[str], colours: Sequence[str], generator: np.random.Generator) -> ScenePlan:
    relation = RELATIONS[int(generator.integers(4))]
    cells = _LEFT_RIGHT if relation in ("left of", "right of") else _ABOVE_BELOW
    first, second = cells if relation in ("left of", "above") else cells[::-1]
    things = (PlannedObject(kinds[0], None, first), PlannedObject(kinds[1], None, second))
    caption = f"{with_article(kinds[0])} {relation} {with_article(kinds[1])}"
    include = [_included(kinds[1]), _included(kinds[0], position=[relation, 0])]
    return ScenePlan("position", things, caption, include)


def _side_by_side(
    kinds: Sequence[str], colours: Sequence[str | None], generator: np.random.Generator
) -> tuple[PlannedObject, ...]:
    cells = (_LEFT_RIGHT, _ABOVE_BELOW)[int(generator.integers(2))]
    order = generator.permutation(2)
    return tuple(PlannedObject(kinds[i], colours[i], cells[order[i]]) for i in range(2))


def _included(kind: str, **facts: Any) -> dict[str, Any]:
    return {"class": kind, "count": 1, **facts}


_PLANNERS = {
    "single_object": _single,
    "two_object": _two,
    "counting": _counting,
    "colors": _colours,
    "position": _position,
    "color_attr": _coloured_pair,
}

_SIZES = {"single_object": 1, "two_object": 2, "counting": 1, "colors": 1, "position": 2, "color_attr": 2}
"""Entries of ``include`` in each task."""
