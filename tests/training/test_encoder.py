"""The encoder stage: what it exports is an encoder that raekit reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_recipes
import two_ranks
from raekit import distributed
from raekit.encoders import ENCODERS
from raekit.errors import UserError
from raekit.training.encoder import EncoderStage, train_tokenizer
from raekit.training.loop import Trainer


def build(folder: Path) -> EncoderStage:
    return EncoderStage(tiny_recipes.resolve(tiny_recipes.encoder(folder)), torch.device("cpu"))


def test_the_exported_tower_gives_the_tokens_of_training(tmp_path: Path) -> None:
    stage = build(tmp_path)
    path = stage.export(tmp_path / "out")
    encoder = ENCODERS.build(ENCODERS["nano"].Config(path=str(path)))
    image = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = stage._see(image)[0]
    # stored in bf16: 8 bits of mantissa
    torch.testing.assert_close(encoder(image), expected, atol=0.1, rtol=0.05)
    assert (path / "tokenizer.json").is_file()


def test_matching_pairs_cost_less_than_shuffled_ones(tmp_path: Path) -> None:
    stage = build(tmp_path)
    image = torch.nn.functional.normalize(torch.eye(4, 8), dim=-1)
    assert stage._contrastive(image, image) < stage._contrastive(image, image.roll(1, dims=0))


def test_the_tokenizer_closes_and_pads() -> None:
    tokenizer = train_tokenizer(["a red circle", "a blue square"], 300, 8)
    ids = tokenizer(["a red circle"], padding="max_length", truncation=True, max_length=8)["input_ids"][0]
    assert len(ids) == 8 and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode([i for i in ids if i != tokenizer.eos_token_id]).strip() == "a red circle"


def train(values: dict[str, Any], folder: Path) -> None:
    """Two steps; the weights of this process before and after them lie in ``folder``."""
    trainer = Trainer(tiny_recipes.resolve(values, steps=2, micro_batch_size=4))
    save_file({n: p.detach().clone() for n, p in trainer.parameters.items()}, folder / f"start-{distributed.rank()}")
    rank = distributed.rank()
    trainer.train()
    save_file({n: p.detach().clone() for n, p in trainer.parameters.items()}, folder / f"end-{rank}")


def test_two_processes_train_the_model_that_one_trains(tmp_path: Path) -> None:
    """On other pictures and beside other captions each would train a model of its own."""
    values = tiny_recipes.encoder(tmp_path)
    for name in ("alone", "both"):
        (tmp_path / name).mkdir()
    train({**values, "run": str(tmp_path / "run-alone")}, tmp_path / "alone")
    two_ranks.run(train, {**values, "run": str(tmp_path / "run-both")}, tmp_path / "both")
    for when in ("start", "end"):
        places = ("alone", 0), ("both", 0), ("both", 1)
        alone, first, second = (load_file(tmp_path / part / f"{when}-{rank}") for part, rank in places)
        assert all(torch.equal(first[name], second[name]) for name in first)
        for name in first:
            torch.testing.assert_close(first[name], alone[name], rtol=1e-3, atol=1e-4)
    moved = load_file(tmp_path / "alone" / "start-0")["siglip.logit_scale"] - alone["siglip.logit_scale"]
    assert moved.abs() > 1e-4


def test_one_picture_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="micro_batch_size 1 leaves no other caption"):
        tiny_recipes.resolve(tiny_recipes.encoder(tmp_path), micro_batch_size=1)
