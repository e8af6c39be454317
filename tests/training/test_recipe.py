"""Recipe files: mistakes are told by path, value and nearest name; the nano recipes build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import tiny_recipes
from raekit.errors import UserError
from raekit.training.recipe import json_schema, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipes.stage1(tmp_path)))
    return path


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.learning_rate=1", "optim.learning_rate: unknown key"),
        ("optim.shedule=1", "optim.shedule: unknown key; did you mean 'schedule'"),
        ("train.steps=0", "train.steps: Input should be greater than 0 (got 0)"),
        ("train.micro_batch_size=3", "train: micro_batch_size 3 must divide batch_size 8"),
        (
            "autoencoder.encoder.name=dino2",
            "autoencoder.encoder: encoders: unknown name 'dino2'; did you mean 'dinov2'",
        ),
        ("losses.lpips=1", "losses: lpips: give lpips_vgg and lpips_heads"),
        ("stage=stage3", "stage: 'stage3' is no stage"),
    ],
)
def test_mistakes_are_told(file: Path, override: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe(file, [override])
    assert sentence in str(error.value)
    assert str(file) in str(error.value)


def test_overrides_win_over_the_file(file: Path) -> None:
    assert load_recipe(file, ["optim.lr=0.5"]).optim.lr == 0.5


def test_the_schema_for_editors_is_current() -> None:
    stored = json.loads((RECIPES / "schema.json").read_text())
    assert stored == json.loads(json.dumps(json_schema())), "write it again: python scripts/write_schema.py"


def test_the_schema_knows_the_settings_of_every_component() -> None:
    text = json.dumps(json_schema())
    for setting in ("has_registers", "num_queries", "guidance_scale", "where"):
        assert f'"{setting}"' in text


def test_explain_rows_name_the_latent(file: Path) -> None:
    rows = dict(load_recipe(file).describe())
    assert rows["latent"] == "32 x 4 x 4 = 512 numbers"
    assert rows["decoder output"] == "32 x 32 px"
