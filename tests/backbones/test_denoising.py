"""The terms of a batch against the transport's own, at one time of each latent and at several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raekit.autoencoder.base import PURPOSE_POSTERIOR
from raekit.backbones.denoising import (
    MOST_TIMES,
    PURPOSE_DROP,
    PURPOSE_EPS,
    PURPOSE_TIME,
    TIMES_STRIDE,
    Repeated,
    denoising_losses,
)
from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond
from raekit.conditioning.label import LabelConditioner
from raekit.training.draws import Draws
from raekit.transport.objective import FlowMatching

SHAPE = (3, 2, 2)
DRAWS = Draws(0, [4, 5, 6])
LATENTS = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2])


def model_of(**settings: Any) -> Any:
    torch.manual_seed(0)
    backbone = DiT(DiT.Config(width=16, depth=2, heads=2, **settings), SHAPE, cond_width=8)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    conditioner = LabelConditioner(LabelConditioner.Config(num_classes=3, width=8, dropout=0.5), num_tokens=4)
    transport = FlowMatching(FlowMatching.Config(prediction="x"), 12)
    return SimpleNamespace(backbone=backbone, conditioner=conditioner, transport=transport)


def by_hand(model: Any, cond: Cond, draws: Draws, number: int) -> Tensor:
    """The loss at a sample's time of that number."""
    shift = TIMES_STRIDE * number
    t = model.transport.sample_t(draws.uniform(PURPOSE_TIME + shift))
    dropped = model.conditioner.drop(cond, draws.uniform(PURPOSE_DROP + shift))
    eps = draws.normal(PURPOSE_EPS + shift, SHAPE)
    loss: Tensor = model.transport.loss(model.backbone, LATENTS, dropped, t, eps)
    return loss


@pytest.mark.parametrize("times", [1, 3])
def test_a_sample_s_loss_is_the_mean_over_its_times(times: int) -> None:
    model = model_of()
    cond = model.conditioner(LABELS)
    found = denoising_losses(model, LATENTS, cond, DRAWS, times=times)["loss"]
    expected = torch.stack([by_hand(model, cond, DRAWS, number) for number in range(times)]).mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_early_head_answers_too() -> None:
    model = model_of(early_block=1)
    found = denoising_losses(model, LATENTS, model.conditioner(LABELS), DRAWS, times=2)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"loss": (3,), "flow": (3,), "self": (3,)}
    torch.testing.assert_close(found["loss"], found["flow"] + 0.5 * found["self"])


def test_nothing_is_dropped_where_nothing_is_trained() -> None:
    model = model_of()
    cond = model.conditioner(LABELS)
    model.conditioner.dropout = 1.0
    kept = denoising_losses(model, LATENTS, cond, DRAWS, is_training=False)["loss"]
    dropped = denoising_losses(model, LATENTS, cond, DRAWS)["loss"]
    null = denoising_losses(model, LATENTS, model.conditioner.null(3), DRAWS, is_training=False)["loss"]
    torch.testing.assert_close(dropped, null)
    assert not torch.allclose(kept, null)


def test_a_sample_s_numbers_are_its_own_at_every_time() -> None:
    whole, part = Repeated(DRAWS, 4), Repeated(Draws(0, [5]), 4)
    times = whole.uniform(PURPOSE_TIME).view(3, 4)
    assert times.unique().numel() == 12
    assert torch.equal(times[:, 0], DRAWS.uniform(PURPOSE_TIME))
    assert torch.equal(times[1], part.uniform(PURPOSE_TIME))
    assert torch.equal(whole.normal(PURPOSE_EPS, SHAPE)[4:8], part.normal(PURPOSE_EPS, SHAPE))


def test_no_purpose_meets_another() -> None:
    purposes = {p + TIMES_STRIDE * n for p in (PURPOSE_TIME, PURPOSE_EPS, PURPOSE_DROP) for n in range(MOST_TIMES)}
    assert len(purposes) == 3 * MOST_TIMES and max(purposes) < PURPOSE_POSTERIOR
