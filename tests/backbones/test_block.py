"""A block passes its input on at first, and reads its condition per image or per token."""

import pytest
import torch

from raekit.backbones.block import Block, BlockConfig, FinalLayer
from raekit.layers.feedforward import GELUFeedForward, SwiGLU


def test_block_is_the_identity_at_first() -> None:
    block = Block(BlockConfig(), width=8, heads=2, cond_width=4)
    block.reset()
    x = torch.randn(2, 3, 8)
    assert torch.equal(block(x, torch.randn(2, 1, 4)), x)


@pytest.mark.parametrize(("mlp", "ratio", "hidden"), [("swiglu", 4.0, 21), ("gelu", 4.0, 32), ("gelu", 2.5, 20)])
def test_hidden_width(mlp: str, ratio: float, hidden: int) -> None:
    layer = Block(BlockConfig(mlp=mlp, mlp_ratio=ratio), width=8, heads=2, cond_width=4).mlp
    assert isinstance(layer, SwiGLU if mlp == "swiglu" else GELUFeedForward)
    assert (layer.w3 if mlp == "swiglu" else layer.fc2).in_features == hidden


def test_condition_per_image_equals_the_same_per_token() -> None:
    block, final = Block(BlockConfig(), width=8, heads=2, cond_width=4), FinalLayer("rms", 8, 4, 5)
    x, cond = torch.randn(2, 3, 8), torch.randn(2, 1, 4)
    torch.testing.assert_close(block(x, cond), block(x, cond.expand(-1, 3, -1)))
    torch.testing.assert_close(final(x, cond), final(x, cond.expand(-1, 3, -1)))
