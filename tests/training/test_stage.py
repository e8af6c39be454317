"""What all stages share: settings that derive, and a state that goes out and comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import tiny_recipes
from raekit.data.conversations import base
from raekit.training import STAGES
from raekit.training.loop import Trainer
from raekit.training.stage import Stage, TrainConfig
from raekit.training.stage1 import Stage1


def test_a_micro_batch_divides_the_batch_and_is_the_batch_by_default() -> None:
    assert TrainConfig(steps=1, batch_size=12).micro_batch == 12
    assert TrainConfig(steps=1, batch_size=12, micro_batch_size=4).micro_batch == 4
    with pytest.raises(ValidationError, match="micro_batch_size 5 must divide batch_size 12"):
        TrainConfig(steps=1, batch_size=12, micro_batch_size=5)


def test_checkpoints_that_are_kept_for_good_are_written() -> None:
    assert TrainConfig(steps=1, batch_size=1, keep_every_steps=3000).save_every_steps == 1000
    with pytest.raises(ValidationError, match="keep_every_steps 1500 must be a multiple of save_every_steps 1000"):
        TrainConfig(steps=1, batch_size=1, keep_every_steps=1500)


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


def test_a_run_notes_what_it_cannot_read_and_logs_how_long_it_waited(tmp_path: Path) -> None:
    values = tiny_recipes.stage1(tmp_path)
    (tmp_path / "pictures" / "a.png").write_bytes(b"no picture")
    Trainer(tiny_recipes.resolve(values, steps=2)).train()
    (row,) = map(json.loads, (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines())
    assert (row["source"], row["key"]) == ("folder", "a.png") and "a.png" in row["reason"]
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["bad/folder"] == 1 and last["samples/folder"] == 16
    assert 0 <= last["read_wait"] <= last["data_wait"] <= 1 and last["longest_wait_seconds"] > 0


@pytest.mark.parametrize("stage", ["encoder", "stage1", "stage2", "unified"])
def test_the_fingerprint_of_the_data_follows_what_positions_lead_to(stage: str, tmp_path: Path) -> None:
    def opened() -> Stage:
        base._opened.cache_clear()  # each start of a run looks anew
        return STAGES[stage](tiny_recipes.resolve(values), torch.device("cpu"))

    values = getattr(tiny_recipes, stage)(tmp_path)
    first = opened().data_fingerprint()
    assert first and opened().data_fingerprint() == first
    picture = next((tmp_path / "pictures").glob("*.png"))
    (tmp_path / "pictures" / "zz.png").write_bytes(picture.read_bytes())
    assert opened().data_fingerprint() != first
