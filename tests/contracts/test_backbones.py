"""What every registered backbone promises; a new row is tested the day it is added."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from raekit.backbones import BACKBONES
from raekit.backbones.base import Backbone
from raekit.conditioning.base import Cond
from raekit.errors import UserError

LATENT, Z, B, N = (3, 4, 2), 16, 2, 8

TINY = {
    "dit": {"width": 16, "depth": 2, "heads": 2},
    "dit_dh": {"width": 16, "depth": 2, "heads": 2, "head_width": 24, "head_depth": 1, "head_heads": 2},
}
"""Smallest settings of each row."""


def build(name: str, latent: tuple[int, int, int] = LATENT, **settings: object) -> Backbone:
    torch.manual_seed(0)
    cls = BACKBONES[name]
    return BACKBONES.build(cls.Config(**{**TINY[name], **settings}), latent, Z)


def awake(name: str, **settings: object) -> Backbone:
    """A backbone whose zero-initialised layers are random, as after training."""
    backbone = build(name, **settings)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    return backbone


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, *LATENT), torch.tensor([0.2, 0.9])


def words(width: int = Z, length: int = 5) -> Cond:
    """Words in context, the last two of the first prompt only padding."""
    mask = torch.ones(B, length, dtype=torch.bool)
    mask[0, 3:] = False
    return Cond(context=torch.randn(B, length, width), mask=mask)


def test_every_row_has_tiny_settings() -> None:
    assert set(TINY) == set(BACKBONES)


@pytest.fixture(params=sorted(BACKBONES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_output_is_exactly_zero_at_first(name: str) -> None:
    z_t, t = inputs()
    output = build(name)(z_t, t, Cond(vector=torch.randn(B, Z)))
    assert output.shape == z_t.shape
    assert not output.any()


def test_samples_do_not_see_each_other(name: str) -> None:
    backbone, (z_t, t), cond = awake(name), inputs(), Cond(tokens=torch.randn(B, N, Z))
    together = backbone(z_t, t, cond)
    alone = backbone(z_t[1:], t[1:], cond[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def test_every_input_matters(name: str) -> None:
    backbone, (z_t, t) = awake(name), inputs()
    vector, tokens = torch.randn(B, Z), torch.randn(B, N, Z)
    outputs = [
        backbone(z_t, t, Cond()),
        backbone(z_t, t.flip(0), Cond()),
        backbone(z_t + 1, t, Cond()),
        backbone(z_t, t, Cond(vector=vector)),
        backbone(z_t, t, Cond(tokens=tokens)),
        backbone(z_t, t, Cond(vector=vector, tokens=tokens)),
    ]
    for i, first in enumerate(outputs):
        assert all((first - second).abs().max() > 1e-3 for second in outputs[i + 1 :])


def test_equal_token_conditions_equal_one_vector(name: str) -> None:
    backbone, (z_t, t), vector = awake(name), inputs(), torch.randn(B, Z)
    per_token = backbone(z_t, t, Cond(tokens=vector[:, None].expand(-1, N, -1)))
    torch.testing.assert_close(per_token, backbone(z_t, t, Cond(vector=vector)), rtol=1e-4, atol=1e-4)


def test_every_parameter_learns(name: str) -> None:
    backbone, (z_t, t) = awake(name), inputs()
    backbone(z_t, t, Cond(tokens=torch.randn(B, N, Z))).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in backbone.parameters())


@pytest.mark.parametrize("settings", [{"mlp": "gelu", "norm": "layer", "qk_norm": "layer"}, {"qk_norm": "rms"}])
@pytest.mark.parametrize("places", [{"has_rope": False}, {"has_position_table": False}])
def test_forms(name: str, settings: dict[str, object], places: dict[str, bool]) -> None:
    z_t, t = inputs()
    assert awake(name, **settings, **places)(z_t, t, Cond(vector=torch.randn(B, Z))).isfinite().all()


def test_patches(name: str) -> None:
    z_t, t = inputs()
    backbone = awake(name, patch_size=2)
    assert backbone.num_tokens == N // 4
    assert backbone(z_t, t, Cond(tokens=torch.randn(B, N // 4, Z))).shape == z_t.shape


def test_bf16_autocast_and_bf16_weights(name: str) -> None:
    backbone, (z_t, t), cond = awake(name), inputs(), Cond(vector=torch.randn(B, Z))
    exact = backbone(z_t, t, cond)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = backbone(z_t, t, cond)
    half = backbone.bfloat16()(z_t.bfloat16(), t, cond.to("cpu", torch.bfloat16))
    assert half.dtype == torch.bfloat16
    for rough in (mixed, half):
        assert (rough.float() - exact).norm() < 0.1 * exact.norm()


def test_state_dict_holds_the_tables(name: str) -> None:
    source, (z_t, t), cond = awake(name), inputs(), Cond(vector=torch.randn(B, Z))
    for buffer in source.buffers():
        buffer.mul_(1.1)
    copy = build(name)
    copy.load_state_dict(source.state_dict())
    torch.testing.assert_close(copy(z_t, t, cond), source(z_t, t, cond))


def test_build_on_the_meta_device_then_initialise(name: str) -> None:
    with torch.device("meta"):
        backbone = build(name)
    backbone.to_empty(device="cpu").initialise()
    reference = build(name)
    for key, buffer in reference.named_buffers():
        assert torch.equal(backbone.get_buffer(key), buffer), key
    z_t, t = inputs()
    assert not backbone(z_t, t, Cond()).any()
    assert all(p.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z_t": torch.zeros(B, 3, 4, 4)}, "latent: got 3 x 4 x 4, this model was built for 3 x 4 x 2"),
        ({"cond": Cond(tokens=torch.zeros(B, N - 1, Z))}, r"condition: tokens is \[2, 7, 16\]"),
        ({"cond": Cond(vector=torch.zeros(B, Z + 1))}, r"condition: vector is \[2, 17\]"),
        ({"cond": words(Z + 1)}, r"condition: context is \[2, 5, 17\], this model needs \[2, 5, 16\]"),
    ],
)
def test_wrong_shapes_are_named(name: str, change: dict[str, object], message: str) -> None:
    z_t, t = inputs()
    given = {"z_t": z_t, "t": t, "cond": Cond()} | change
    with pytest.raises(UserError, match=message):
        build(name)(**given)


def test_patch_must_divide_the_grid(name: str) -> None:
    with pytest.raises(UserError, match="patch_size: 3 does not divide"):
        build(name, patch_size=3)


def test_narrow_width_warns_with_the_bound(name: str) -> None:
    with pytest.warns(UserWarning, match=r"above the latent token width 48.*= 0\.\d{3} \(RAE, theorem 1\)"):
        build(name, latent=(48, 2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(name)


def test_words_in_context_matter_and_padding_does_not(name: str) -> None:
    backbone, (z_t, t), cond = awake(name), inputs(), words()
    output = backbone(z_t, t, cond)
    assert (output - backbone(z_t, t, Cond())).abs().amax((1, 2, 3)).min() > 1e-3
    filled = cond.context.clone()
    filled[0, 3:] = 100.0
    for same in (cond.padded(9), Cond(context=filled, mask=cond.mask)):
        torch.testing.assert_close(backbone(z_t, t, same), output, rtol=1e-4, atol=1e-4)


def test_early_head_predicts_in_the_same_pass(name: str) -> None:
    backbone, (z_t, t), cond = awake(name, early_block=1), inputs(), Cond(vector=torch.randn(B, Z))
    output, early = backbone.with_early(z_t, t, cond)
    assert early.shape == z_t.shape and (output - early).abs().max() > 1e-3
    torch.testing.assert_close(output, backbone(z_t, t, cond))
    (output + early).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in backbone.parameters())
    fresh_output, fresh_early = build(name, early_block=1).with_early(z_t, t, cond)
    assert not fresh_output.any() and not fresh_early.any()


def test_an_early_head_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="early_block: this model has no early head"):
        build(name).with_early(*inputs(), Cond())
    with pytest.raises(UserError, match="early_block: 3 is not one of the trunk's 2 blocks"):
        build(name, early_block=3)
