"""A backbone as a velocity: what it predicts is converted, and what guides it is what the settings say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond
from raekit.denoiser import Denoiser
from raekit.errors import UserError
from raekit.samplers.settings import Sampling
from raekit.transport.objective import FlowMatching

LATENT = (3, 2, 2)


def build(prediction: str = "velocity", **settings: Any) -> Denoiser:
    torch.manual_seed(0)
    backbone = DiT(DiT.Config(width=16, depth=2, heads=2, **settings), LATENT, cond_width=8)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    transport = FlowMatching(FlowMatching.Config(prediction=prediction), latent_dim=12)
    return Denoiser(backbone.eval(), transport, torch.device("cpu"), "fp32")


def draws() -> tuple[torch.Tensor, torch.Tensor, Cond, Cond]:
    torch.manual_seed(1)
    return (
        torch.randn(2, *LATENT),
        torch.tensor([0.3, 0.8]),
        Cond(vector=torch.randn(2, 8)),
        Cond(vector=torch.zeros(2, 8)),
    )


@torch.no_grad()
def test_the_output_is_read_as_the_transport_says() -> None:
    z_t, t, cond, _ = draws()
    denoiser = build("x")
    expected = (z_t - denoiser.backbone(z_t, t, cond)) / t.view(-1, 1, 1, 1)
    torch.testing.assert_close(denoiser.alone(cond)(z_t, t), expected)
    plain = build()
    torch.testing.assert_close(plain.alone(cond)(z_t, t), plain.backbone(z_t, t, cond))


@torch.no_grad()
def test_each_kind_of_guidance_is_its_formula() -> None:
    z_t, t, cond, null = draws()
    denoiser = build(early_block=1)
    output, early = denoiser.backbone.with_early(z_t, t, cond)
    without = denoiser.backbone(z_t, t, null)
    weak = torch.randn_like(output)
    expected = {
        "none": output,
        "cfg": without + 3 * (output - without),
        "internal": early + 3 * (output - early),
        "auto": weak + 3 * (output - weak),
    }
    for kind, value in expected.items():
        settings = Sampling(guidance=kind, guidance_scale=3.0, guide="somewhere" if kind == "auto" else None)
        guided = denoiser.guided(cond, null, settings, lambda z_t, t: weak)
        torch.testing.assert_close(guided(z_t, t), value, msg=kind)


@pytest.mark.parametrize(("kind", "null"), [("cfg", None), ("internal", Cond())])
def test_guidance_that_the_model_has_not_learned_is_refused(kind: str, null: Cond | None) -> None:
    _, _, cond, _ = draws()
    with pytest.raises(UserError, match=f"guidance: '{kind}' needs"):
        build().guided(cond, null, Sampling(guidance=kind, guidance_scale=3.0))
