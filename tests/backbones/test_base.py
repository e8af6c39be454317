"""The sum of time and condition, words in context, the early head, and the bound that a narrow width warns of."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond
from raekit.errors import UserError


def model() -> DiT:
    return DiT(DiT.Config(width=16, depth=1, heads=2), (3, 2, 2), cond_width=8)


def test_condition_is_not_expanded_without_need() -> None:
    time, vector, tokens = torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 4, 8)
    assert model().condition(time, Cond()).shape == (2, 1, 8)
    torch.testing.assert_close(model().condition(time, Cond(vector=vector))[:, 0], time + vector)
    both = model().condition(time, Cond(vector=vector, tokens=tokens))
    torch.testing.assert_close(both, (time + vector)[:, None] + tokens)


@pytest.mark.parametrize(("width", "bound"), [(8, "= 0.333"), (12, "no room beside the noise")])
def test_warning_quotes_the_bound(width: int, bound: str) -> None:
    with pytest.warns(UserWarning, match=rf"width {width} is not above the latent token width 12.*{bound}"):
        DiT(DiT.Config(width=width, depth=1, heads=1), (12, 2, 2), cond_width=8)
    with pytest.warns(UserWarning, match="latent token width 48"):
        DiT(DiT.Config(width=24, depth=1, heads=1, patch_size=2), (12, 2, 2), cond_width=8)


def awake(**settings: object) -> DiT:
    """Two blocks as wide as the condition, all weights random."""
    torch.manual_seed(0)
    backbone = DiT(DiT.Config(width=16, depth=2, heads=2, **settings), (3, 2, 2), cond_width=16)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    return backbone


def test_words_are_attended_to_and_leave_before_the_last_layer() -> None:
    """Written out: words stand first, unturned by the rotary tables, and go through the blocks like tokens."""
    backbone, z_t, t, words = awake(), torch.randn(2, 3, 2, 2), torch.rand(2), torch.randn(2, 3, 16)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    modulation = F.silu(backbone.time_embed(t))[:, None]
    x = torch.cat((words, backbone.embed(z_t) + backbone.position), dim=1)
    cos, sin = (
        torch.cat((fill.expand(3, -1), table))
        for fill, table in zip((torch.ones(1, 8), torch.zeros(1, 8)), backbone.rope(), strict=True)
    )
    for block in backbone.blocks:
        x = block(x, modulation, (cos, sin), torch.cat((mask, torch.ones(2, 4, dtype=torch.bool)), dim=1))
    expected = backbone.final(x[:, 3:], modulation).transpose(1, 2).reshape(2, 3, 2, 2)
    torch.testing.assert_close(backbone(z_t, t, Cond(context=words, mask=mask)), expected)


def test_words_beside_a_vector_per_token_are_refused() -> None:
    cond = Cond(tokens=torch.zeros(1, 4, 16), context=torch.zeros(1, 2, 16), mask=torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(UserError, match="words in context and a vector per token"):
        awake()(torch.zeros(1, 3, 2, 2), torch.rand(1), cond)


def test_the_early_head_reads_the_tokens_after_its_block() -> None:
    backbone, z_t, t = awake(early_block=1), torch.randn(2, 3, 2, 2), torch.rand(2)
    modulation = F.silu(backbone.time_embed(t))[:, None]
    x = backbone.blocks[0](backbone.embed(z_t) + backbone.position, modulation, backbone.rope())
    expected = backbone.early(x, modulation).transpose(1, 2).reshape(2, 3, 2, 2)
    output, early = backbone.with_early(z_t, t, Cond())
    torch.testing.assert_close(early, expected)
    torch.testing.assert_close(output, backbone(z_t, t, Cond()))


def test_early_gradients_stop_at_the_early_block() -> None:
    backbone = awake(early_block=1)
    backbone.with_early(torch.randn(2, 3, 2, 2), torch.rand(2), Cond())[1].square().sum().backward()
    reached = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert {"embed.proj.weight", "blocks.0.mlp.w3.weight", "early.linear.weight"} <= reached
    assert not any(name.startswith(("blocks.1", "final")) for name in reached)


def test_an_early_head_changes_no_other_weight() -> None:
    torch.manual_seed(0)
    plain = DiT(DiT.Config(width=16, depth=2, heads=2), (3, 2, 2), cond_width=16).state_dict()
    torch.manual_seed(0)
    early = DiT(DiT.Config(width=16, depth=2, heads=2, early_block=1), (3, 2, 2), cond_width=16).state_dict()
    assert {name for name in early if name not in plain} == {name for name in early if name.startswith("early.")}
    assert plain.keys() <= early.keys()
