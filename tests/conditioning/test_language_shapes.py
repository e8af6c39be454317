"""Published language models, counted without their weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from raekit.conditioning.language_model import language_model_width
from raekit.conditioning.language_shapes import SHAPES, known_settings

COUNTS = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "smollm2-135m": 134_515_008,
}
"""As on the model cards."""


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_as_many_as_published(name: str) -> None:
    """Of one block and of two; the others are alike."""
    counts = []
    for depth in (1, 2):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(known_settings(name, depth))
        counts.append(sum(parameter.numel() for parameter in model.parameters()))
    assert counts[0] + (SHAPES[name].depth - 1) * (counts[1] - counts[0]) == COUNTS[name]
    assert language_model_width(name) == SHAPES[name].width


def test_an_unknown_one_is_left_to_the_hub() -> None:
    assert known_settings("somebody/model") is None
