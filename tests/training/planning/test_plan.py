"""What stage 2 comes to, against the papers' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForTextEncoding

import tiny_language_model
import tiny_recipes
from raekit.backbones.dit_dh import DiTDH
from raekit.conditioning.base import Cond, Conditioner
from raekit.conditioning.text import TextConditioner
from raekit.errors import UserError
from raekit.lora import LoRAConfig
from raekit.training.planning.plan import (
    PROMPT_TOKENS,
    backbone_work,
    count_backbone,
    describe,
    form_of,
    parts,
    reader_work,
)
from raekit.training.recipe import load_recipe
from raekit.training.stage2 import Stage2

RECIPES = Path(__file__).parents[3] / "recipes/stage2"


def test_dit_dh_xl_costs_what_is_published() -> None:
    """161.6 billion multiply-adds a forward pass at 256 px, of the released network."""
    config = DiTDH.Config(size="XL")
    work = backbone_work(config, (768, 16, 16), 1152, "vector", True)
    assert work.forward / 2e9 == pytest.approx(161.6, abs=0.05)
    assert work.parameters == count_backbone(config, (768, 16, 16), 1152) == 837_227_476


def test_a_language_model_costs_two_operations_a_weight_and_word() -> None:
    frozen = reader_work("smollm2-135m", 64, False, False, True)
    blocks = 134_515_008 - 49_152 * 576
    attention = 30 * 4 * 64**2 * 9 * 64
    assert frozen.parameters == 134_515_008 and frozen.activations == 0
    assert frozen.training == frozen.forward == pytest.approx(2 * 64 * blocks + attention, rel=1e-3)
    passed, trained = (reader_work("smollm2-135m", 64, is_trained, True, True) for is_trained in (False, True))
    assert frozen.forward * 1.9 < passed.training < frozen.forward * 2.1 < trained.training < frozen.forward * 3.1


@pytest.mark.parametrize("family", ["llama", "qwen2", "t5"])
def test_a_language_model_of_a_directory_is_counted(family: str, tmp_path: Path) -> None:
    """By its own config, which may list its blocks, or be a text encoder's."""
    save = {
        "llama": tiny_language_model.saved,
        "qwen2": tiny_language_model.saved_qwen2,
        "t5": tiny_language_model.saved_encoder,
    }
    name = save[family](tmp_path)
    kind = AutoModelForTextEncoding if family == "t5" else AutoModel
    network = kind.from_pretrained(name)
    frozen, trained = (reader_work(name, 16, is_trained, False, True) for is_trained in (False, True))
    assert frozen.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert frozen.activations == 0 < trained.activations and frozen.forward * 2 < trained.training


def test_parts_of_a_recipe_with_words_in_context() -> None:
    config = load_recipe(RECIPES / "one_gpu_t2i.yaml", ["backbone.depth=2", "data.image_size=256"])
    assert isinstance(config, Stage2.Config)
    found = {part.name: part for part in parts(config)}
    assert list(found) == ["backbone", "condition", "language model", "encoder"]
    assert [part.optim for part in found.values()] == ["muon", "muon", None, None]
    assert found["language model"].work.activations == found["encoder"].work.activations == 0
    cached = {part.name: part.operations() for part in parts(config.model_copy(update={"cache": Path("cache")}))}
    assert cached["language model"] == cached["encoder"] == 0 < cached["backbone"]


def test_the_form_of_a_condition_is_that_of_its_null() -> None:
    class Own(Conditioner):
        width, dropout, form = 8, 0.0, "mine"

        def __init__(self, null: Cond) -> None:
            super().__init__()
            self.nothing = null

        def forward(self, prompts: Sequence[str] | Tensor) -> Cond:
            raise NotImplementedError

        def null(self, batch_size: int) -> Cond:
            return self.nothing

    words = Cond(vector=torch.zeros(1, 8), context=torch.zeros(1, 1, 8), mask=torch.ones(1, 1, dtype=torch.bool))
    assert form_of(Own(words), None) == PROMPT_TOKENS
    assert form_of(Own(words), TextConditioner.Config(max_prompt_tokens=40)) == 40
    assert form_of(Own(Cond(tokens=torch.zeros(1, 4, 8))), None) == "tokens"
    assert form_of(Own(Cond(vector=torch.zeros(1, 8))), None) == "vector"


def test_rows_without_a_latent_space_on_disk() -> None:
    config = load_recipe(RECIPES / "imagenet256_dit_dh_s.yaml")
    assert isinstance(config, Stage2.Config)
    rows = dict(describe(config))
    assert rows["latent"] == "768 x 16 x 16 = 196608 numbers" and rows["time shift"] == "6.928"
    assert "not there yet" in rows["latent space"] and rows["backbone parameters"] == "195,972,820"
    with pytest.raises(UserError, match="latent_space: no directory .* state what it will be in `autoencoder`"):
        describe(config.model_copy(update={"autoencoder": None}))


def test_adapters_learn_beside_frozen_weights() -> None:
    pytest.importorskip("peft")
    config = DiTDH.Config(size="S", depth=3)
    shape = ((768, 16, 16), 384, "tokens", True)
    whole, adapted = backbone_work(config, *shape), backbone_work(config, *shape, LoRAConfig(rank=4))
    extra = adapted.parameters - whole.parameters
    assert 0 < extra == adapted.learning < 0.05 * whole.parameters and whole.learning == whole.parameters
    # No gradients of the weights: about two thirds of the work, a little more for the adapters.
    assert 0.6 < adapted.training / whole.training < 0.8
    passed = backbone_work(config, *shape, LoRAConfig(parts=("language_model",)))
    assert passed.parameters == whole.parameters and passed.learning == 0 < passed.activations < whole.activations


def test_adapters_of_the_condition_are_counted_with_what_learns(tmp_path: Path) -> None:
    def rows(**changes: object) -> dict[str, str]:
        return dict(describe(recipe(**changes)))

    def recipe(**changes: object) -> Stage2.Config:
        frozen = changes.pop("frozen", ())
        found = tiny_recipes.resolve({**tiny_recipes.stage2(tmp_path, **changes), "frozen": frozen})
        assert isinstance(found, Stage2.Config)
        return found

    adapted = {"lora": {"rank": 3}}
    stage = Stage2(recipe(**adapted), torch.device("cpu"))
    learned = {name: p.numel() for name, p in stage.parameters().items() if name.startswith("conditioner.")}
    assert rows(**adapted)["condition parameters"] == f"{sum(learned.values()):,} trained"
    beside = sum(count for name, count in learned.items() if ".adapters." in name)
    assert f"frozen beside {beside:,} trained numbers of adapters of rank 3;" in rows(**adapted)["language model"]
    kept = rows(**adapted, frozen=["language_model"])
    assert kept["condition parameters"] == rows()["condition parameters"] and "frozen numbers" in kept["language model"]
    found = {part.name: part for part in parts(recipe(**adapted, are_queries_trained=False))}
    assert found["adapters"].work.parameters == beside and found["adapters"].optim == "adamw"
    assert found["language model"].optim is None and found["language model"].work.activations > 0


def test_parts_of_a_recipe_with_adapters() -> None:
    pytest.importorskip("peft")
    adapted = "lora={rank: 16, alpha: 16, parts: [backbone, language_model]}"
    config = load_recipe(RECIPES / "t2i_finetune_2.4b.yaml", [adapted, "backbone.depth=2"])
    found = {part.name: part for part in parts(config)}  # type: ignore[arg-type]
    trained = {name for name, part in found.items() if part.optim is not None}
    assert trained == {"adapters of the backbone", "adapters of the language model"}
    assert found["language model"].work.activations > 0 and not found["adapters of the backbone"].work.forward
