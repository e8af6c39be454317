"""The encoder stage: what it exports is an encoder that raekit reads."""

from __future__ import annotations

from pathlib import Path

import torch

import tiny_recipes
from raekit.encoders import ENCODERS
from raekit.training.encoder import EncoderStage, train_tokenizer


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
