"""What an evaluation on composed scenes found: a table for each checker, every picture's verdict, sheets.

In: verdicts on three sets of pictures. Out: ``report.json``, ``report.html`` and ``sheet_*.png`` in one directory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from raekit.data.scene_plan import TASKS, Task
from raekit.data.scene_prompts import ScenePrompt
from raekit.evaluate.figures import Mean
from raekit.evaluate.page import Page, Row, sheets
from raekit.metrics.scene_check import Found
from raekit.metrics.scene_templates import AttributeChecker

TITLE = "Composed scenes: a GenEval-style score, emoji domain"

GENERATED, TRUE, DECODED = "generated", "true", "true, decoded"
"""The three sets of pictures."""

LABELS: dict[Task, str] = {
    "single_object": "single",
    "two_object": "two",
    "counting": "count",
    "colors": "colour",
    "position": "position",
    "color_attr": "two-colour",
}

ALL = "all tasks"

COLUMNS = ("pictures", "score", "chance", "ceiling", "its chance", "ceiling, decoded", "its chance")


@dataclass(frozen=True)
class Judged:
    """One set of pictures in the eyes of one checker.

    Attributes:
        asked: the task of each picture.
        right: of each picture.
        found: what is in each.
        chance: by task, the share of pictures that are right for other prompts; None where there is no other prompt.
    """

    asked: list[Task]
    right: list[bool]
    found: list[list[Found]]
    chance: dict[Task, float | None]

    @property
    def tasks(self) -> list[Task]:
        """Those that were asked for, in their own order."""
        return [task for task in TASKS if task in self.asked]

    def score(self, task: Task | None = None) -> Mean:
        """The share of right pictures of a task; over all tasks, the mean of their shares, as GenEval averages."""
        if task is not None:
            return share([right for asked, right in zip(self.asked, self.right, strict=True) if asked == task])
        each = [self.score(one) for one in self.tasks]
        error = math.sqrt(sum(mean.standard_error**2 for mean in each)) / len(each)
        return Mean(sum(mean.value for mean in each) / len(each), error)

    def by_chance(self, task: Task | None = None) -> float | None:
        """Right by another prompt, of a task or as the mean over those that have several prompts."""
        if task is not None:
            return self.chance[task]
        known = [value for value in self.chance.values() if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class SceneReport:
    """What was found.

    Attributes:
        settings: model, drawings, sampling, checkers.
        prompts: one a picture, task by task.
        seed: of the first picture; the next have ``seed + 1``, ...
        results: by checker, then by set of pictures.
        notes: sentences that a reader of the scores must know.
        sheets: pictures to look at, by name.
    """

    settings: dict[str, Any]
    prompts: list[ScenePrompt]
    seed: int
    results: dict[str, dict[str, Judged]]
    notes: list[str]
    sheets: dict[str, Image.Image] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """Those that were asked for, in their own order."""
        return [task for task in TASKS if any(prompt.task == task for prompt in self.prompts)]

    def table(self) -> list[tuple[str, list[Row]]]:
        """A group of rows for each checker: its tasks, and all of them."""
        return [
            (f"checker: {name}", [self._row(sets, task) for task in (*self.tasks, None)])
            for name, sets in self.results.items()
        ]

    def agreement(self) -> float | None:
        """Share of the generated pictures on which all checkers that know things agree; None of a single one."""
        told = [sets[GENERATED].right for name, sets in self.results.items() if name != AttributeChecker.name]
        verdicts = list(zip(*told, strict=True))
        return sum(len(set(each)) == 1 for each in verdicts) / len(verdicts) if len(told) > 1 else None

    def as_json(self) -> dict[str, Any]:
        """Everything but the sheets."""
        scores = {
            name: {
                ALL if task is None else task: {
                    which: {**asdict(judged.score(task)), "chance": judged.by_chance(task)}
                    for which, judged in sets.items()
                }
                for task in (*self.tasks, None)
            }
            for name, sets in self.results.items()
        }
        content = {"title": TITLE, "settings": self.settings, "notes": self.notes, "agreement": self.agreement()}
        return {**content, "scores": scores, "pictures": list(self._pictures())}

    def save(self, directory: Path) -> list[Path]:
        """Write JSON, page and sheets; returns their paths.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        notes = [*self.notes, f"+ right, - wrong, in the eyes of: {', '.join(self.results)}"]
        page = Page(TITLE, COLUMNS, self.table(), notes, list(self.settings.items()), sheets(self.sheets))
        return page.save(directory, self.as_json())

    def _row(self, sets: dict[str, Judged], task: Task | None) -> Row:
        number = len(self.prompts) if task is None else sum(prompt.task == task for prompt in self.prompts)
        cells = [str(number)]
        for judged in (sets[GENERATED], sets[TRUE], sets[DECODED]):
            mean, chance = judged.score(task), judged.by_chance(task)
            cells += [f"{mean.value:.2f} ± {mean.standard_error:.2f}", "-" if chance is None else f"{chance:.3f}"]
        return (ALL if task is None else LABELS[task]), cells

    def _pictures(self) -> Iterator[dict[str, Any]]:
        """Each prompt with its seed and what each checker saw in the generated picture and in the true one."""
        for index, prompt in enumerate(self.prompts):
            seen = {
                name: {
                    which: {"right": judged.right[index], "found": [asdict(thing) for thing in judged.found[index]]}
                    for which, judged in sets.items()
                }
                for name, sets in self.results.items()
            }
            yield {**prompt.as_json(), "seed": self.seed + index, "checkers": seen}


def share(right: Sequence[bool]) -> Mean:
    """The share of what is right, and its standard error.

    The error is that of the share with one right and one wrong picture more (Laplace): none of eight is not known to
    be none for certain.
    """
    supposed = (sum(right) + 1) / (len(right) + 2)
    return Mean(sum(right) / len(right), math.sqrt(supposed * (1 - supposed) / len(right)))
