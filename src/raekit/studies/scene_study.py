"""What studies of composed scenes have in common: a model that is asked in words, and held-out prompts to ask it.

In: settings. Out: the generator, the drawings that true pictures are made of, and prompts that training left out.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from raekit import config as recipes
from raekit.data.scene_plan import TASKS, Task
from raekit.data.scene_prompts import ScenePrompt
from raekit.data.scenes import Scenes
from raekit.errors import UserError
from raekit.evaluate.scenes import asked_in_words, choose_prompts, open_scenes
from raekit.generate import TextToImage, load_generator
from raekit.registry import nearest_hint


class SceneStudyConfig(recipes.Config):
    """What the settings of every such study have."""

    name: str
    """Which study: a row of :data:`raekit.studies.STUDIES`."""
    data: Path = Path("data/emoji")
    """Emoji shards, as `raekit prepare data emoji` makes them."""
    model: str | None = None
    """A text generator's directory or hub id; by default the bundled nano model."""
    num_per_task: int = Field(10, ge=1)
    """Held-out prompts of each task."""
    tasks: str = ",".join(TASKS)
    """Which of GenEval's six tasks, comma-separated."""
    seed: int = Field(0, ge=0)
    """Of the prompts and of the first picture."""
    steps: int | None = Field(None, ge=1)
    """Of the sampler, where it is not to be the model's own number."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""


def text_generator(config: SceneStudyConfig) -> TextToImage:
    """The model that is studied.

    Raises:
        UserError: it is not there, or it takes no text.
    """
    return asked_in_words(load_generator(config.model, config.device))


def held_out(config: SceneStudyConfig, generator: TextToImage) -> tuple[Scenes, list[ScenePrompt], str]:
    """Drawings of the size that the generator draws at, prompts task by task, and a sentence on where those are from.

    Raises:
        UserError: the shards are not there, or hold too little.
    """
    scenes = open_scenes(config.data, generator.latent_space.output_size, with_held_out=False)
    prompts, origin = choose_prompts(scenes, config.num_per_task, config.seed, None)
    return scenes, prompts, origin


def tasks_of(text: str) -> list[Task]:
    """``"counting,colors"`` as tasks, in their own order.

    Raises:
        UserError: one that GenEval does not have.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in TASKS:
            raise UserError(f"tasks: unknown task {name!r}; {nearest_hint(name, list(TASKS))}")
    return [task for task in TASKS if task in names]
