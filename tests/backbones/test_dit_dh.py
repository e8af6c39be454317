"""DiT-DH against its formula."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raekit.backbones.dit_dh import DiTDH
from raekit.conditioning.base import Cond
from raekit.errors import UserError


def tiny(cond_width: int = 16, **settings: object) -> DiTDH:
    torch.manual_seed(0)
    shape = {"width": 16, "depth": 1, "heads": 2, "head_width": 24, "head_depth": 1, "head_heads": 3}
    model = DiTDH(DiTDH.Config(**{**shape, **settings}), (3, 2, 2), cond_width)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("has_time_in_head", [True, False])
@pytest.mark.parametrize("head_width", [16, 24])
def test_forward_written_out(has_time_in_head: bool, head_width: int) -> None:
    model = tiny(has_time_in_head=has_time_in_head, head_width=head_width, head_heads=2)
    z_t, t, vector = torch.randn(2, 3, 2, 2), torch.rand(2), torch.randn(2, 16)
    time = model.time_embed(t)[:, None]
    s = model.embed(z_t) + model.position
    s = model.blocks[0](s, F.silu(F.silu(time + vector[:, None])), model.rope())
    s = F.silu(time + s) if has_time_in_head else F.silu(s)
    s = F.silu(model.to_head(s))
    x = model.head_blocks[0](model.head_embed(z_t), s, model.head_rope())
    expected = model.final(x, s).transpose(1, 2).reshape(2, 3, 2, 2)
    torch.testing.assert_close(model(z_t, t, Cond(vector=vector)), expected)
    assert isinstance(model.to_head, nn.Identity) == (head_width == 16)


def test_condition_reaches_the_head_only_through_the_trunk() -> None:
    model = tiny()
    nn.init.zeros_(model.blocks[0].modulation.weight)
    z_t, t = torch.randn(1, 3, 2, 2), torch.rand(1)
    one, other = (model(z_t, t, Cond(tokens=torch.randn(1, 4, 16))) for _ in range(2))
    torch.testing.assert_close(one, other)


def test_initial_weights_are_pytorch_defaults() -> None:
    model = DiTDH(DiTDH.Config(size="nano"), (3, 2, 2), cond_width=256)
    qkv = model.head_blocks[0].attention.qkv
    assert qkv.weight.abs().max() <= 512**-0.5
    assert qkv.bias.any()
    assert not model.head_blocks[0].modulation.weight.any()


def test_time_in_the_head_needs_equal_widths() -> None:
    with pytest.raises(UserError, match="condition width: 8 differs from the trunk's width 16"):
        tiny(cond_width=8)
    assert tiny(cond_width=8, has_time_in_head=False)(
        torch.randn(1, 3, 2, 2), torch.rand(1), Cond(vector=torch.randn(1, 8))
    ).shape == (1, 3, 2, 2)


def test_only_the_head_has_to_be_wider_than_the_latent() -> None:
    shape = {"width": 8, "depth": 1, "heads": 1, "head_depth": 1, "head_heads": 1, "has_time_in_head": False}
    with pytest.warns(UserWarning, match=r"head_width 8 is not above the latent token width 12.* = 0.333"):
        DiTDH(DiTDH.Config(**shape, head_width=8), (12, 2, 2), cond_width=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiTDH(DiTDH.Config(**shape, head_width=16), (12, 2, 2), cond_width=8)
