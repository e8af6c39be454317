"""Recipes: strict keys, one parent, overrides, and one clear clause per mistake."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
import yaml
from pydantic import Field, ValidationError

from raekit.config import Config, component, dump_yaml, merge, read_recipe, validate
from raekit.errors import UserError
from raekit.registry import REGISTRIES, Registry


class Small:
    """A component with one setting."""

    class Config(Config):
        name: Literal["small"] = "small"
        width: int = Field(default=8, gt=0)
        """Hidden width."""


class Large:
    """Another component, with a setting of its own."""

    class Config(Config):
        name: Literal["large"] = "large"
        depth: int = 2


class Optim(Config):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


MODULE = "raekit_test_parts"
PARTS = Registry("parts", {"small": f"{MODULE}:Small", "large": f"{MODULE}:Large"})
del REGISTRIES["parts"]


class Recipe(Config):
    part: component(PARTS)  # type: ignore[valid-type]
    optim: Optim = Optim()
    steps: int


@pytest.fixture(autouse=True)
def parts_module(monkeypatch) -> None:
    """The registry above finds its classes by module name, as all registries do."""
    module = ModuleType(MODULE)
    module.Small, module.Large = Small, Large
    monkeypatch.setitem(sys.modules, MODULE, module)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(values: dict) -> str:
    with pytest.raises(UserError) as caught:
        validate(Recipe, values, "r.yaml")
    return str(caught.value)


def test_component_is_chosen_by_name() -> None:
    recipe = validate(Recipe, {"part": {"name": "large", "depth": 5}, "steps": 1}, "r.yaml")
    assert isinstance(recipe.part, Large.Config)
    assert recipe.part.depth == 5
    assert validate(Recipe, {"part": "small", "steps": 1}, "r.yaml").part == Small.Config()


def test_configs_are_frozen_and_documented() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Small.Config().width = 9
    assert Small.Config.model_fields["width"].description == "Hidden width."


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"part": "small"}, "steps: missing; add it to the recipe"),
        ({"part": "small", "stepss": 3, "steps": 1}, "stepss: unknown key; did you mean 'steps'?"),
        ({"part": "small", "steps": 1, "optim": {"rl": 1}}, "optim.rl: unknown key"),
        ({"part": "small", "steps": 1, "optim": {"beta": 1}}, "optim.beta: unknown key; did you mean 'betas'?"),
        ({"part": "small", "steps": "many"}, "steps: "),
        ({"part": "smal", "steps": 1}, "did you mean 'small'?"),
        ({"part": {"width": 3}, "steps": 1}, "known parts: large, small"),
        ({"part": {"name": 3}, "steps": 1}, "known parts: large, small"),
        ({"part": {"name": ["small"]}, "steps": 1}, "known parts: large, small"),
        ({"part": {"name": "small", "width": 0}, "steps": 1}, "part.width: Input should be greater than 0 (got 0)"),
        ({"part": {"name": "small", "widht": 3}, "steps": 1}, "part.widht: unknown key; did you mean 'width'?"),
        ({"part": {"name": "small", "depth": 3}, "steps": 1}, "part.depth: unknown key"),
    ],
)
def test_mistakes_name_path_value_and_fix(values: dict, sentence: str) -> None:
    message = refusal(values)
    assert message.startswith("r.yaml: ")
    assert sentence in message


def test_all_mistakes_are_told_at_once() -> None:
    message = refusal({"part": "small", "stepss": 3})
    assert "steps: missing" in message
    assert "stepss: unknown key" in message


def test_recipe_reads_what_dump_wrote(tmp_path) -> None:
    recipe = validate(Recipe, {"part": {"name": "large", "depth": 5}, "steps": 7}, "r.yaml")
    text = dump_yaml(recipe)
    assert list(yaml.safe_load(text)) == ["part", "optim", "steps"]
    assert yaml.safe_load(text)["part"] == {"name": "large", "depth": 5}
    assert validate(Recipe, read_recipe(write(tmp_path, "again.yaml", text)), "again.yaml") == recipe


def test_base_is_laid_below(tmp_path) -> None:
    write(tmp_path, "base.yaml", "part: {name: small, width: 4}\noptim: {lr: 0.5}\nsteps: 1\n")
    child = write(tmp_path, "child.yaml", "base: base.yaml\npart: {width: 6}\nsteps: 2\n")
    assert read_recipe(child) == {"part": {"name": "small", "width": 6}, "optim": {"lr": 0.5}, "steps": 2}


def test_base_may_have_a_base(tmp_path) -> None:
    write(tmp_path, "a.yaml", "steps: 1\noptim: {lr: 1}\n")
    write(tmp_path, "b.yaml", "base: a.yaml\nsteps: 2\n")
    assert read_recipe(write(tmp_path, "c.yaml", "base: b.yaml\n")) == {"steps": 2, "optim": {"lr": 1}}


def test_base_may_be_one_that_ships(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = write(tmp_path, "mine.yaml", "base: recipes/nano/generator.yaml\nrun: runs/mine\n")
    assert read_recipe(mine) == {**read_recipe("recipes/nano/generator.yaml"), "run": "runs/mine"}


def test_a_base_beside_the_recipe_comes_before_one_that_ships(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/recipes/nano").mkdir(parents=True)
    write(tmp_path / "mine/recipes/nano", "generator.yaml", "steps: 3\n")
    assert read_recipe(write(tmp_path / "mine", "r.yaml", "base: recipes/nano/generator.yaml\n")) == {"steps": 3}


def test_a_missing_base_is_looked_for_beside_the_recipe(tmp_path) -> None:
    with pytest.raises(UserError, match=f"recipe '{tmp_path}/recipes/none.yaml': no such file"):
        read_recipe(write(tmp_path, "r.yaml", "base: recipes/none.yaml\n"))


def test_an_override_of_the_name_leaves_nothing_of_the_other_class(tmp_path) -> None:
    path = write(tmp_path, "r.yaml", "part: {name: small, width: 4}\noptim: {lr: 1}\nsteps: 1\n")
    recipe = read_recipe(path, ["part.name=large", "part.depth=3"])
    assert validate(Recipe, recipe, "r.yaml").part == Large.Config(depth=3)
    assert read_recipe(path, ["part.name=small"])["part"] == {"name": "small", "width": 4}
    assert read_recipe(path, ["optim.name=adamw"])["optim"] == {"lr": 1, "name": "adamw"}, "it named no other before"


def test_another_component_replaces_its_parent_whole() -> None:
    assert merge({"part": {"name": "small", "width": 4}}, {"part": {"name": "large"}}) == {"part": {"name": "large"}}


def test_base_cycle_is_refused(tmp_path) -> None:
    first = write(tmp_path, "a.yaml", "base: b.yaml\n")
    write(tmp_path, "b.yaml", "base: a.yaml\n")
    with pytest.raises(UserError, match="leads back to itself"):
        read_recipe(first)


def test_overrides_win_and_are_read_as_yaml(tmp_path) -> None:
    path = write(tmp_path, "r.yaml", "part: small\nsteps: 1\ndata: [{weight: 1}, {weight: 2}]\n")
    overrides = ["steps=5", "optim.lr=1e-4", "optim.betas=[0.5, 0.9]", "data.1.weight=3", "label=a=b"]
    recipe = read_recipe(path, overrides)
    assert recipe["steps"] == 5
    assert recipe["optim"]["betas"] == [0.5, 0.9]
    assert recipe["data"] == [{"weight": 1}, {"weight": 3}]
    assert recipe["label"] == "a=b"
    del recipe["data"], recipe["label"]
    assert validate(Recipe, recipe, "r.yaml").optim.lr == 1e-4


@pytest.mark.parametrize(
    ("text", "override", "sentence"),
    [
        ("steps: 1", "steps", "write it as key.path=value"),
        ("steps: 1", "=3", "write it as key.path=value"),
        ("steps: 1", "steps.more=3", "holds a value, not a section"),
        ("steps: 1", "steps.more.still=3", "inside a value"),
        ("data: [1]", "data.3=2", "'3' is not an index of a list of 1"),
        ("steps: 1", "steps=[1", "not valid YAML"),
        ("steps: 1\nsteps: 2", "steps=3", "key 'steps' is given twice"),
        ("steps: [1", "steps=3", "not valid YAML"),
        ("- 1", "steps=3", "a recipe is a mapping"),
        ("base: [a.yaml, b.yaml]", "steps=3", "base: ['a.yaml', 'b.yaml'] is no path; name the one recipe"),
        ("", "steps=3", "a recipe is a mapping"),
    ],
)
def test_bad_recipes_and_overrides(tmp_path, text: str, override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read_recipe(write(tmp_path, "r.yaml", text), [override])
    assert sentence in str(caught.value)


def test_missing_recipe_names_the_command_that_lists_them(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file; `raekit list recipes`"):
        read_recipe(tmp_path / "none.yaml")


def test_a_folder_or_binary_file_is_refused(tmp_path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(UserError, match="cannot be read"):
            read_recipe(path)
