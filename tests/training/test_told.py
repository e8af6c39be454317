"""What a batch says, in two steps, is what it says in one; only what stays as it is, is taken ahead of the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_recipes
from raekit.errors import UserError
from raekit.training.draws import Draws
from raekit.training.stage2 import Stage2
from raekit.training.told import Teller


def stage(folder: Path, **condition: Any) -> Stage2:
    return Stage2(tiny_recipes.resolve(tiny_recipes.stage2(folder, **condition)), torch.device("cpu"))


@pytest.mark.parametrize("is_llm_trained", [False, True])
def test_two_steps_are_one(is_llm_trained: bool, tmp_path: Path) -> None:
    own = stage(tmp_path, is_llm_trained=is_llm_trained, are_queries_trained=is_llm_trained)
    batch, draws = next(own.batches(0, 3)), Draws(0, range(3))
    told = own.teller.tell(batch, draws)
    assert (told.features is None) == is_llm_trained, "what learns is read within the step"
    assert told.latent.shape == (3, *own.generator.latent_space.shape) and not told.latent.requires_grad
    found, expected = own.teller.condition(told).tokens, own.generator.conditioner(batch.captions).tokens
    assert found is not None and torch.equal(found, expected) and found.requires_grad


def test_classes_tell_what_pictures_must_carry(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path)
    values |= {"condition": {"name": "label", "num_classes": 2, "width": 40}, "sample_prompts": [0]}
    own = Stage2(tiny_recipes.resolve(values), torch.device("cpu"))
    teller, batch = Teller(own.generator), next(own.batches(0, 3))
    with pytest.raises(UserError, match="data: the pictures carry no class labels"):
        teller.condition(teller.tell(batch, Draws(0, range(3))))
