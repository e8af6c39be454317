"""What stage 1 comes to: against published numbers, and against the counter on a step of a tiny run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny_recipes
from raekit.cost import count_flops
from raekit.training.loop import Trainer
from raekit.training.planning.work import Part
from raekit.training.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "recipes/stage1"


def by_name(parts: tuple[Part, ...]) -> dict[str, Part]:
    return {part.name: part for part in parts}


def test_the_published_decoder() -> None:
    """ViT-XL on 257 tokens: two operations a weight and token, and four for each pair of tokens and channel."""
    found = by_name(load_recipe(RECIPES / "dinov2_base.yaml").parts())
    decoder, vgg = found["decoder"], found["VGG16 and LPIPS"]
    weights = 28 * (4 * 1152**2 + 2 * 1152 * 4096) + 1152 * 768
    assert decoder.work.forward == pytest.approx(2 * 257 * weights + 28 * 4 * 257**2 * 1152, rel=0.01)
    assert decoder.work.parameters == 415_056_640 and (decoder.optim, decoder.extra_forwards) == ("adamw", 1)
    # VGG16's convolutions: 15.3 G multiply-adds at 224 px, here of two pictures of 256.
    assert vgg.work.forward == pytest.approx(2 * 2 * 15.35e9 * (256 / 224) ** 2, rel=0.01)
    assert found["discriminator's heads"].work.parameters == 7_386_245
    assert not found["discriminator's heads"].is_averaged
    assert found["encoder"].optim is None and found["encoder"].work.activations == 0


@pytest.mark.parametrize("has_adversary", [False, True])
def test_operations_of_a_step(tmp_path: Path, has_adversary: bool) -> None:
    values: dict[str, Any] = tiny_recipes.stage1(tmp_path)
    values["losses"] = {"encoder": 0.1, "gram": 0.1}
    # Deep enough for the last layer, whose gradient the balance of the losses asks for twice more, not to count.
    values["autoencoder"]["decoder"].update(width=32, depth=4, mlp_width=128)
    if has_adversary:
        seen = {"name": "features", "backbone": "encoder", "kernel_size": 1}
        values["adversary"] = {"discriminator": seen, "weight": 0.5}
    settings = tiny_recipes.resolve({**values, "share_every_steps": 1000}, batch_size=8, micro_batch_size=4)
    trainer = Trainer(settings)
    micros = trainer.ready(trainer._batches())
    trainer.train_step(micros)  # the first one also measures the terms' shares of the gradient
    counted = count_flops(lambda: trainer.train_step(micros), trainer.device)
    expected = sum(part.operations() for part in settings.parts()) * settings.train.batch_size
    assert counted == pytest.approx(expected, rel=0.1)
