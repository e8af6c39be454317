"""Recipes are compared key by key, and only what breaks a run is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raekit.errors import UserError
from raekit.training.saving.changes import ABSENT, Change, changes, check_resumable

RECIPE: dict[str, Any] = {
    "seed": 0,
    "optim": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.95]},
    "language_model_optim": {"name": "adamw"},
    "data": {"mixture": [{"name": "folder", "path": "a", "weight": 1.0, "source": {"name": "jsonl", "path": "b"}}]},
    "held_out": {"mixture": [{"name": "folder", "weight": 1.0}]},
    "frozen": [],
}


def with_value(value: Any, *keys: Any) -> dict[str, Any]:
    """The recipe with one value changed, deep below."""

    def changed(node: Any, path: tuple[Any, ...]) -> Any:
        if not path:
            return value
        copy = list(node) if isinstance(node, list) else dict(node)
        copy[path[0]] = changed(copy[path[0]], path[1:])
        return copy

    result: dict[str, Any] = changed(RECIPE, keys)
    return result


def test_every_key_that_differs_is_found() -> None:
    assert changes(RECIPE, RECIPE) == []
    assert changes(RECIPE, with_value([0.8, 0.95], "optim", "betas")) == [Change("optim.betas.0", 0.9, 0.8)]
    assert changes(RECIPE, {**RECIPE, "frozen": ["a"], "cache": None}) == [
        Change("frozen.0", ABSENT, "a"),
        Change("cache", ABSENT, None),
        Change("frozen", [], ABSENT),
    ]


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("seed",), 1),
        (("optim", "name"), "muon"),
        (("language_model_optim", "name"), "muon"),
        (("data", "mixture", 0, "weight"), 2.0),
        (("data", "mixture", 0, "source", "name"), "shards"),
        (("data", "mixture"), []),
    ],
)
def test_another_optimiser_or_data_stream_is_refused(keys: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(UserError, match=r"^checkpoint 'c': .* is .*, was .*; resume with .*, or start another run"):
        check_resumable(changes(RECIPE, with_value(value, *keys)), "c")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("optim", "lr"), 1e-4),
        (("data", "mixture", 0, "path"), "moved"),
        (("data", "mixture", 0, "source", "path"), "moved"),
        (("held_out", "mixture", 0, "name"), "shards"),
    ],
)
def test_the_rest_may_change(keys: tuple[Any, ...], value: Any) -> None:
    found = changes(RECIPE, with_value(value, *keys))
    assert len(found) == 1
    check_resumable(found, "c")
