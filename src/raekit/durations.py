"""Durations of a recipe: optimiser steps, or epochs that the recipe's own batch turns into steps.

In: a raw recipe in which any setting that ends in ``steps`` may read ``"16 epochs"``. Out: the same with whole numbers
of steps, ``epochs x train.images_per_epoch / train.batch_size`` rounded. The papers count in epochs (paper B in virtual
ones of 1.28 million images); a loop counts in steps; the conversion happens here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import WithJsonSchema

EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*epochs?\s*")

Steps = Annotated[
    int, WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)? epochs?$"}]})
]
"""A number of optimiser steps; in a recipe also ``"N epochs"``, given ``train.images_per_epoch``."""


def resolve_epochs(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The raw recipe with every duration in steps.

    Raises:
        ValueError: a duration in epochs without ``train.images_per_epoch``.
    """
    train = recipe.get("train")
    images = train.get("images_per_epoch") if isinstance(train, Mapping) else None
    batch = train.get("batch_size") if isinstance(train, Mapping) else None
    steps_per_epoch = images / batch if isinstance(images, int) and isinstance(batch, int) and batch > 0 else None
    resolved: dict[str, Any] = _resolve(recipe, steps_per_epoch, "")
    return resolved


def _resolve(value: Any, steps_per_epoch: float | None, path: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolve(inner, steps_per_epoch, f"{path}.{key}".lstrip(".")) for key, inner in value.items()}
    if not isinstance(value, str) or not path.endswith("steps") or not (match := EPOCHS.fullmatch(value)):
        return value
    if steps_per_epoch is None:
        raise ValueError(f"{path}: {value!r} needs train.images_per_epoch and train.batch_size; give both, or steps")
    return round(float(match.group(1)) * steps_per_epoch)
