"""Held-out figures do not depend on how many processes share the work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import tiny_recipes
import two_ranks
from raekit import distributed
from raekit.training import stage1, stage2, unified
from raekit.training.held_out import collected, dealt
from raekit.training.loop import Trainer

RECIPES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "stage1": tiny_recipes.stage1,
    "stage2": tiny_recipes.stage2,
    "unified": tiny_recipes.unified,
}


def figures(recipes: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, float]]:
    """Of fresh networks, eight samples three at a time."""
    found = {}
    for name, values in recipes.items():
        stage = Trainer(tiny_recipes.resolve({**values, "run": str(folder / name)})).stage
        with (
            mock.patch.object(stage1, "BATCH", 3),
            mock.patch.object(stage2, "EVALUATION_BATCH", 3),
            mock.patch.object(unified, "TALKS_TOGETHER", 3),
        ):
            found[name] = stage.evaluate()
    return found


def meet(recipes: dict[str, dict[str, Any]], folder: Path) -> None:
    found = figures(recipes, folder / "two")
    (folder / f"{distributed.rank()}.json").write_text(json.dumps(found))


def test_two_processes_find_the_very_figures_of_one(tmp_path: Path) -> None:
    recipes = {name: recipe(tmp_path / name) for name, recipe in RECIPES.items()}
    expected = figures(recipes, tmp_path / "one")
    assert all(len(values) > 0 for values in expected.values()) and "exact/questions" in expected["unified"]
    two_ranks.run(meet, recipes, tmp_path)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected


def test_batches_are_dealt_like_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 3)
    hands = {}
    for is_together in (False, True):
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            hands[is_together, rank] = dealt(10, 3, is_together)
    assert [hands[False, rank] for rank in range(3)] == [[range(3), range(9, 10)], [range(3, 6)], [range(6, 9)]]
    assert [hands[True, rank][-1] for rank in range(3)] == [range(9, 10)] * 3, "as often as each other"


def test_one_process_has_them_all() -> None:
    found = {rows: list(rows) for rows in reversed(dealt(5, 2, is_together=True))}
    assert collected(found) == [[0, 1], [2, 3], [4]]
