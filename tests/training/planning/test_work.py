"""Operations, weights and bytes against sums on paper, and deep networks against a line through shallow ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond
from raekit.training.planning.plan import backbone_work
from raekit.training.planning.work import Checkpointing, Part, Work, measure, work_of

LATENT, TOKENS = (12, 4, 4), 16
CONFIG = DiT.Config(width=32, depth=5, heads=2)


def on_paper(width: int, depth: int, tokens: int, channels: int) -> int:
    """Operations of a DiT's forward pass (RAE, appendix D): two for each weight and token, four for each pair of tokens
    and channel in attention; the condition's layers see one token."""
    mlp = int(2 / 3 * int(4 * width))
    block = tokens * (4 * width**2 + 3 * width * mlp) + 2 * tokens**2 * width + 6 * width**2
    ends = 2 * tokens * width * channels + 2 * width**2
    time = 512 * width + width**2
    return 2 * (depth * block + ends + time)


def test_the_counter_agrees_with_paper() -> None:
    work = backbone_work(CONFIG, LATENT, 32, "vector", False)
    assert work.forward == on_paper(32, 5, TOKENS, 12)


def test_shallow_copies_foretell_the_whole_network() -> None:
    with torch.device("meta"):
        built = DiT(CONFIG, LATENT, 32)

    def call(model: Any, size: int) -> Tensor:
        cond = Cond(vector=torch.empty(size, 32, requires_grad=True))
        output: Tensor = model(torch.empty(size, *LATENT), torch.empty(size), cond)
        return output

    for is_bf16 in (False, True):
        whole, foretold = measure(built, call, is_bf16), backbone_work(CONFIG, LATENT, 32, "vector", is_bf16)
        assert foretold.forward == whole.forward and foretold.training == whole.training
        assert foretold.parameters == whole.parameters and foretold.activations == whole.activations
        assert foretold.checkpointed < foretold.activations


def linear(depth: int) -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(depth)))


def test_a_stack_of_linear_maps() -> None:
    """3 tokens through 7 maps: each keeps its input for its weight's gradient, and costs twice as much backwards."""
    work = work_of(linear, 7, lambda m, size: m(torch.empty(size, 3, 8, requires_grad=True)), False, stream=24)
    forward = 7 * 2 * 3 * 64
    assert work == Work(7 * 64, forward, 3 * forward, 7 * 24 * 4, checkpointed=7 * 24 * 4, learning=448, again=24 * 4)


def test_what_is_frozen_and_has_nothing_before_it_to_train_keeps_nothing() -> None:
    work = measure(linear(2).requires_grad_(False), lambda m, size: F.silu(m(torch.empty(size, 3, 8))), True)
    assert work.training == work.forward == 2 * 2 * 3 * 64 and work.activations == 0
    assert Part("frozen", work).operations("full") == work.forward
    assert work.at_rest() == Work(128)


@pytest.mark.parametrize(
    ("checkpointing", "operations", "kept"), [("none", 30, 8), ("selective", 35, 5), ("full", 40, 2)]
)
def test_blocks_run_again_cost_a_forward_pass_more_and_keep_less(
    checkpointing: Checkpointing, operations: int, kept: int
) -> None:
    part = Part("trained", Work(1, forward=10, training=30, activations=8, checkpointed=2), optim="adamw")
    assert part.operations(checkpointing) == operations and part.work.kept(checkpointing) == kept
    twice = Part("redrawn", part.work, optim="adamw", extra_forwards=2)
    assert twice.operations(checkpointing) == operations + 20


def test_an_image_seen_at_several_times_costs_so_often_and_weighs_once() -> None:
    work = backbone_work(CONFIG, LATENT, 32, "vector", False)
    often = work.at(3)
    assert often.training == 3 * work.training and often.activations == 3 * work.activations
    assert often.parameters == work.parameters and often.learning == work.learning
