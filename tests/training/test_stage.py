"""What all stages share: settings that derive, and a state that goes out and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import tiny_recipes
from raekit.training.stage import TrainConfig
from raekit.training.stage1 import Stage1


def test_a_micro_batch_divides_the_batch_and_is_the_batch_by_default() -> None:
    assert TrainConfig(steps=1, batch_size=12).micro_batch == 12
    assert TrainConfig(steps=1, batch_size=12, micro_batch_size=4).micro_batch == 4
    with pytest.raises(ValidationError, match="micro_batch_size 5 must divide batch_size 12"):
        TrainConfig(steps=1, batch_size=12, micro_batch_size=5)


def test_the_state_goes_out_and_comes_back(tmp_path: Path) -> None:
    first, second = (
        Stage1(tiny_recipes.resolve({**tiny_recipes.stage1(tmp_path), "seed": seed}), torch.device("cpu"))
        for seed in (0, 1)
    )
    second.load_state(first.state())
    assert all(torch.equal(value, second.state()[name]) for name, value in first.state().items())


def test_the_seed_decides_the_fresh_weights(tmp_path: Path) -> None:
    stages = [
        Stage1(tiny_recipes.resolve({**tiny_recipes.stage1(tmp_path), "seed": seed}), torch.device("cpu"))
        for seed in (0, 0, 1)
    ]
    weights = [stage.autoencoder.decoder.last_layer for stage in stages]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
