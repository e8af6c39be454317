"""The recipes for a small set of one's own: adapters for the generator that ships, and for the published size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_adapter
import tiny_data
from raekit import generator_files
from raekit.config import read_recipe, validate
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.training.loop import Trainer
from raekit.training.recipe import load_recipe
from raekit.training.stage2 import Stage2

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_nano_recipe_fits_the_generator_that_ships() -> None:
    recipe = load_recipe(RECIPES / "nano/finetune_lora.yaml")
    assert isinstance(recipe, Stage2.Config) and recipe.lora is not None
    settings, latent_space = generator_files.read_settings(str(recipe.init_generator))
    assert latent_space == recipe.latent_space.resolve()
    for part in ("backbone", "condition", "transport"):
        own = getattr(recipe, part).model_dump(mode="json")
        assert {name: own[name] for name in settings[part]} == settings[part]


def test_the_nano_recipe_runs_on_a_folder_with_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny networks in place of the generator that ships; everything else as the recipe says."""
    pytest.importorskip("peft")
    path, _ = tiny_adapter.saved(tmp_path)
    for split in ("train", "test"):
        tiny_data.pictures(tmp_path / "data" / "mine" / split)
    monkeypatch.chdir(tmp_path)
    values = read_recipe(RECIPES / "nano/finetune_lora.yaml", ["train.steps=2", "train.device=cpu", "cache=null"])
    for part in ("backbone", "condition", "transport", "sampling", "latent_space"):
        del values[part]
    adapters = Trainer(validate(Stage2.Config, {**values, "init_generator": str(path)}, "recipe")).train()
    assert adapters == Path("runs/nano/finetune_lora/lora")
    generator = TextToImage.load(path, "cpu")
    generator.load_lora(adapters)
    assert len(generator("my own red circle")) == 1


@pytest.mark.parametrize("condition", [{"name": "query"}, {"name": "unified", "template": "chatml"}])
def test_the_large_recipe_takes_everything_but_the_adapters_from_the_generator(
    tmp_path: Path, condition: dict[str, str]
) -> None:
    """Of one that was trained here, and of a converted release, whose condition is the unified one."""
    read = {"language_model": "Qwen/Qwen2.5-1.5B-Instruct", "width": 2048}
    parts = {
        "backbone": {"name": "dit", "size": "2.4B", "extra_silu": True},
        "condition": condition | read,
        "transport": {"timesteps": "logit_normal", "time_shift": 2.0},
        "sampling": {"steps": 17},
    }
    generator = {"format": generator_files.FORMAT, "version": generator_files.VERSION, "generator": parts}
    text = json.dumps({**generator, "latent_space": {"path": "../autoencoder", "checksum": ""}})
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator/config.json").write_text(text, encoding="utf-8")
    recipe = load_recipe(RECIPES / "stage2/finetune_lora.yaml", [f"init_generator={tmp_path / 'generator'}"])
    assert isinstance(recipe, Stage2.Config) and recipe.latent_space == tmp_path / "autoencoder"
    for part, settings in parts.items():
        own = getattr(recipe, part).model_dump(mode="json")
        assert {name: own[name] for name in settings} == settings


def test_the_large_recipe_without_its_generator_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="init_generator: model 'weights/scale_rae/generator' is no directory;.* before"
    ):
        load_recipe(RECIPES / "stage2/finetune_lora.yaml")


def test_the_large_recipe_adapts_both_parts_and_keeps_their_paces_apart() -> None:
    recipe = load_recipe(RECIPES / "stage2/finetune_lora.yaml", ["init_generator=models/nano/generator"])
    assert isinstance(recipe, Stage2.Config) and recipe.lora is not None and recipe.language_model_optim is not None
    assert recipe.lora.parts == ("backbone", "language_model")
    assert recipe.language_model_optim.betas == (0.9, 0.999) and recipe.optim.betas == (0.9, 0.95)
    assert recipe.train.checkpoint_activations == "auto"
