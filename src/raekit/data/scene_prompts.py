"""Prompts whose answers can be checked: words, what a right picture holds, and a true picture of it.

In: composed scenes, or a file in the format of GenEval's ``evaluation_metadata.jsonl`` (Ghosh et al. 2023). Out:
:class:`ScenePrompt` records. Only what the scenes have drawings of can be asked: with all of the emoji shards, 417 of
GenEval's 553 prompts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raekit.data.palette import GENEVAL_COLOURS
from raekit.data.sample import Pixels
from raekit.data.scene_plan import TASKS, Task, plan_of, plan_scene
from raekit.data.scenes import Scenes
from raekit.errors import UserError

LEAD = "a photo of "
"""What GenEval's prompts begin with, and one of the leads that scenes are captioned with."""

GENEVAL = "geneval"
GENEVAL_FILE = Path(__file__).parent / GENEVAL / "evaluation_metadata.jsonl"
"""The prompts of GenEval, which ship; see NOTICE."""

PROMPT_STREAM, PICTURE_STREAM = 11, 12
"""Keep the chance of prompts and of true pictures apart from that of other things made with the same seed."""


@dataclass(frozen=True)
class ScenePrompt:
    """Words, and what makes a picture of them right.

    Attributes:
        task: one of the six kinds.
        text: what a model is told.
        include: what must be there, as GenEval states it: ``class``, ``count``, perhaps ``color`` and ``position``
            (the relation, and the index of the thing it relates to).
    """

    task: Task
    text: str
    include: tuple[dict[str, Any], ...]

    @property
    def kinds(self) -> set[str]:
        """The classes that it names."""
        return {wanted["class"] for wanted in self.include}

    def as_json(self) -> dict[str, Any]:
        """The prompt as a line of a prompt file."""
        fields = asdict(self)
        return {"tag": fields["task"], "prompt": fields["text"], "include": list(fields["include"])}


def planned_prompts(scenes: Scenes, split: str, task: Task, num: int, seed: int) -> list[ScenePrompt]:
    """``num`` prompts of a task, about pairs of the split (see :mod:`raekit.data.scene_plan`), drawn by chance."""
    found = []
    for index in range(num):
        generator = np.random.default_rng([PROMPT_STREAM, seed, TASKS.index(task), index])
        style = str(generator.choice(sorted(scenes.sprites)))
        plan = plan_scene(task, sorted(scenes.sprites[style]), split, generator)
        found.append(ScenePrompt(task, LEAD + plan.caption, tuple(plan.include)))
    return found


def read_prompts(path: Path, scenes: Scenes) -> tuple[list[ScenePrompt], int]:
    """The prompts of a file that the scenes can show, and how many the file holds; ``geneval`` is the file that ships.

    Raises:
        UserError: no such file, or a line that is not in GenEval's format.
    """
    path = GENEVAL_FILE if path == Path(GENEVAL) and not path.is_file() else path
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"prompts {str(path)!r}: cannot be read ({error}); give GenEval's evaluation_metadata.jsonl"
        ) from None
    prompts = [_prompt(line, f"prompts {str(path)!r}, line {number}") for number, line in enumerate(lines, 1) if line]
    return [prompt for prompt in prompts if styles_of(prompt, scenes)], len(prompts)


def styles_of(prompt: ScenePrompt, scenes: Scenes) -> list[str]:
    """The styles that draw every class of ``prompt``, sorted."""
    return sorted(style for style, kinds in scenes.sprites.items() if prompt.kinds <= kinds.keys())


def true_picture(prompt: ScenePrompt, scenes: Scenes, seed: Sequence[int]) -> tuple[Pixels, list[dict[str, Any]]]:
    """A picture ``[size, size, 3]`` of which ``prompt`` is true, otherwise by chance; and what stands where in it."""
    generator = np.random.default_rng([PICTURE_STREAM, *seed])
    style = str(generator.choice(styles_of(prompt, scenes)))
    return scenes.draw(plan_of(prompt.task, prompt.include, generator).objects, style, generator)


def _prompt(line: str, where: str) -> ScenePrompt:
    """One line of the file, checked: that a picture of it can be planned."""
    try:
        row = json.loads(line)
        prompt = ScenePrompt(row["tag"], str(row["prompt"]), tuple(dict(wanted) for wanted in row["include"]))
        is_known = prompt.task in TASKS and all(
            isinstance(wanted["class"], str) and wanted.get("color") in (None, *GENEVAL_COLOURS)
            for wanted in prompt.include
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: {error!r}; each line needs tag, include and prompt, as in GenEval's file") from None
    if not is_known:
        raise UserError(f"{where}: tag, class or color is none of GenEval's; see its evaluation_metadata.jsonl")
    plan_of(prompt.task, prompt.include, np.random.default_rng(0))
    return prompt
