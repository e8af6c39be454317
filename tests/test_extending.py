"""The worked example of ``docs/extending.md``, run as it is printed there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from house_rules import RULES, Module
from raekit.cli.list import describe
from raekit.config import validate
from raekit.data import DATASETS
from raekit.data.dataset import Dataset
from raekit.data.palette import PALETTE

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
SOURCE, LINE, RECIPE = re.findall(r"^```(?:python|yaml)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def dataset(monkeypatch) -> Dataset:
    """The example's file in its place, its line in the registry, and the recipe's block built."""
    ((name, target),) = ast.literal_eval("{" + LINE + "}").items()
    module = ModuleType(target.partition(":")[0])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(SOURCE, "docs/extending.md", "exec"), module.__dict__)
    monkeypatch.setitem(DATASETS._rows, name, target)
    return Dataset(validate(Dataset.Config, yaml.safe_load(RECIPE), "docs/extending.md"), seed=1)


def test_the_file_keeps_the_house_rules() -> None:
    module = Module.parse("data/chequers.py", SOURCE)
    assert [breach for rule in RULES for breach in rule(module)] == []


def test_the_line_puts_it_in_the_listing(dataset) -> None:
    assert "chequers" in DATASETS
    assert describe(DATASETS, "chequers") == "Chequered boards in two colours."


def test_the_recipe_draws_true_pictures(dataset) -> None:
    item = dataset[0]
    first, second = re.fullmatch(r"a (\w+) and (\w+) chequered board", item.caption).groups()
    assert item.image.shape == (3, 64, 64)
    assert tuple(item.image[:, 0, 0]) == PALETTE[first]
    assert tuple(item.image[:, 0, 8]) == PALETTE[second]
    assert tuple(item.image[:, 8, 8]) == PALETTE[first]


def test_it_gives_the_same_sample_every_time(dataset) -> None:
    assert np.array_equal(dataset[7].image, dataset[7].image)
    assert {dataset[i].caption for i in range(8)} != {dataset[0].caption}
