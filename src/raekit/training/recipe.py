"""From a recipe file to the settings of its stage.

In: a YAML file and overrides. Out: the stage's frozen ``Config``; ``stage:`` in the file says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from pydantic import TypeAdapter

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
    stage = str(values.get("stage"))
    if stage not in STAGES:
        raise UserError(f"{path}: stage: {stage!r} is no stage; {nearest_hint(stage, STAGES)}")
    recipe: Recipe = validate(STAGES[stage].Config, values, str(path))
    return recipe


def json_schema() -> dict[str, Any]:
    """JSON schema of all recipes, for editors that check YAML while it is written (``recipes/schema.json``)."""
    stages: TypeAdapter[Any] = TypeAdapter(Union[tuple(STAGES[name].Config for name in STAGES)])  # type: ignore[arg-type]  # noqa: UP007 - built at run time
    schema = stages.json_schema()
    for definition in schema["$defs"].values():
        if "stage" in definition.get("properties", {}):
            definition["properties"]["base"] = {"type": "string", "description": "Recipe that this one changes."}
            # A recipe with a parent may leave anything out.
            definition["required"] = ["stage"] if "stage" in definition.get("required", []) else []
    return schema
