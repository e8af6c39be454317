"""From a recipe file to the settings of its stage.

In: a YAML file and overrides. Out: the stage's frozen ``Config``; ``stage:`` in the file says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raekit.config import read_recipe, validate
from raekit.errors import UserError
from raekit.registry import nearest_hint
from raekit.training import STAGES
from raekit.training.stage import Recipe


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe.

    Args:
        path: YAML file.
        overrides: ``key.path=value`` strings, applied last.

    Raises:
        UserError: every mistake in the file, each with its full path, value and the nearest known name.
    """
    values = read_recipe(path, overrides)
    stage = values.get("stage")
    if stage not in STAGES:
        raise UserError(f"{path}: stage: {stage!r} is no stage; {nearest_hint(str(stage), STAGES)}")
    recipe: Recipe = validate(STAGES[stage].Config, values, str(path))
    return recipe


def json_schema() -> dict[str, Any]:
    """JSON schema of all recipes, for editors that check YAML while it is written."""
    return {"anyOf": [STAGES[name].Config.model_json_schema() for name in STAGES]}
