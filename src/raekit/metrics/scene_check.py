"""Whether a picture shows what a prompt asks for, given what was found in it.

In: a prompt whose answer can be checked, and the things that a checker found: class, colour, box. Out: right or wrong.
The rules are those of GenEval (Ghosh et al. 2023, section 3): every kind of thing is there at least as often as asked
(exactly so in counting), with the colour and in the relation asked for; further things are no mistake. Who finds the
things is another matter: see :mod:`raekit.metrics.scene_templates` and :mod:`raekit.metrics.scene_probe`. No checker
is perfect, so a score is only told beside the checker's own: on true pictures (its ceiling), and with the pictures
judged by each other's prompts (chance).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raekit.data.sample import Pixels
from raekit.data.scene_plan import TASKS, Task
from raekit.data.scene_prompts import ScenePrompt

MARGIN = 0.1
"""Part of two boxes' summed sides by which their centres must lie apart, for one to be left of, above ... the other."""

CONE = 0.5
"""Least cosine between the line from centre to centre and the direction asked for: within 60 degrees."""

ANY = "*"
"""The class of a thing that may be whatever was asked for."""

CheckerName = Literal["templates", "attributes", "probe"]
"""Who finds the things: by known drawings, by numbers and colours alone, by an encoder's tokens."""

DIRECTIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


@dataclass(frozen=True)
class Found:
    """One thing in a picture.

    Attributes:
        kind: its class, or :data:`ANY`.
        colour: one of GenEval's ten.
        box: left, top, right and bottom in the unit square.
        score: how sure the checker is; each has its own scale.
    """

    kind: str
    colour: str
    box: tuple[float, float, float, float]
    score: float


class SceneChecker(ABC):
    """Finds the things in a picture.

    Attributes:
        name: for tables.
        tasks: those of which its verdicts tell something; elsewhere it finds as much right by chance.
    """

    name: CheckerName
    tasks: tuple[Task, ...] = TASKS

    @abstractmethod
    def look(self, images: Sequence[Pixels]) -> list[list[Found]]:
        """The things in each picture ``[H,W,3]``."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """How it was made, for the report."""


def is_right(prompt: ScenePrompt, found: Sequence[Found]) -> bool:
    """Whether a picture with these things in it is right for ``prompt``."""
    matched: list[list[Found]] = []
    for wanted in prompt.include:
        things = [thing for thing in found if _is_wanted(wanted, thing)]
        if "position" in wanted:
            relation, other = wanted["position"]
            things = [thing for thing in things if any(is_placed(thing, relation, at) for at in matched[other])]
        if len(things) < wanted["count"] or (prompt.task == "counting" and len(things) != wanted["count"]):
            return False
        matched.append(things)
    return True


def is_placed(thing: Found, relation: str, other: Found) -> bool:
    """Whether ``thing`` is ``left of``, ``right of``, ``above`` or ``below`` the ``other``."""
    x, y = (
        _beyond(thing.box[axis] + thing.box[axis + 2], other.box[axis] + other.box[axis + 2], sides)
        for axis, sides in ((0, _sides(thing, other, 0)), (1, _sides(thing, other, 1)))
    )
    distance = math.hypot(x, y)
    along = x * DIRECTIONS[relation][0] + y * DIRECTIONS[relation][1]
    return distance > 0 and along >= CONE * distance


def _is_wanted(wanted: dict[str, Any], thing: Found) -> bool:
    return thing.kind in (wanted["class"], ANY) and wanted.get("color") in (None, thing.colour)


def _sides(first: Found, second: Found, axis: int) -> float:
    return sum(thing.box[axis + 2] - thing.box[axis] for thing in (first, second))


def _beyond(twice: float, twice_other: float, sides: float) -> float:
    """How far one centre lies from another along an axis, less the margin; the centres are given doubled."""
    offset = (twice - twice_other) / 2
    return math.copysign(max(abs(offset) - MARGIN * sides, 0.0), offset)
