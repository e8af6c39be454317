"""DiT against its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond


def tiny(**settings: object) -> DiT:
    torch.manual_seed(0)
    model = DiT(DiT.Config(width=16, depth=2, heads=2, **settings), (3, 2, 2), cond_width=8)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("extra_silu", [False, True])
def test_forward_written_out(extra_silu: bool) -> None:
    model = tiny(extra_silu=extra_silu)
    z_t, t, tokens = torch.randn(2, 3, 2, 2), torch.rand(2), torch.randn(2, 4, 8)
    c = model.time_embed(t)[:, None] + tokens
    c = F.silu(F.silu(c)) if extra_silu else F.silu(c)
    x = model.embed(z_t) + model.position
    for block in model.blocks:
        shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c).chunk(6, -1)
        x = x + gate1 * block.attention(block.norm1(x) * (1 + scale1) + shift1, model.rope())
        x = x + gate2 * block.mlp(block.norm2(x) * (1 + scale2) + shift2)
    shift, scale = model.final.modulation(c).chunk(2, -1)
    out = model.final.linear(model.final.norm(x) * (1 + scale) + shift)
    torch.testing.assert_close(model(z_t, t, Cond(tokens=tokens)), out.transpose(1, 2).reshape(2, 3, 2, 2))


def test_condition_of_a_token_acts_on_it_alone_without_attention() -> None:
    """A condition is only a modulation: with attention silenced, token i answers to condition i and to no other."""
    model = tiny()
    for block in model.blocks:
        nn.init.zeros_(block.attention.proj.weight)
        nn.init.zeros_(block.attention.proj.bias)
    z_t, t, tokens = torch.randn(1, 3, 2, 2), torch.rand(1), torch.randn(1, 4, 8)
    changed = tokens.clone()
    changed[0, 2] += 1
    moved = (model(z_t, t, Cond(tokens=changed)) - model(z_t, t, Cond(tokens=tokens))).abs().amax(1).flatten() > 0
    assert moved.tolist() == [False, False, True, False]


def test_initial_weights() -> None:
    model = DiT(DiT.Config(width=64, depth=1, heads=2), (3, 2, 2), cond_width=8)
    attention = model.blocks[0].attention
    bound = (6 / (64 + 3 * 64)) ** 0.5
    assert attention.qkv.weight.abs().max() <= bound
    assert attention.qkv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not attention.qkv.bias.any()
    assert model.time_embed.hidden.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not model.blocks[0].modulation.weight.any()


def test_fields_override_the_preset() -> None:
    assert DiT.Config(size="B", depth=3).shape == (768, 3, 12)
