"""The sum of stage 1: weights, starts, and what stands in for what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import tiny_encoders
from raekit.encoders.base import RepresentationEncoder
from raekit.errors import UserError
from raekit.losses.gram import gram_distance
from raekit.losses.perceptual import EncoderFeatures
from raekit.losses.pixels import gradient_l1, l1
from raekit.losses.reconstruction import ReconstructionLoss

CPU = torch.device("cpu")


@pytest.fixture
def encoder(tmp_path: Path) -> RepresentationEncoder:
    return tiny_encoders.build("nano", tmp_path)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 32, 32, generator=generator), torch.rand(2, 3, 32, 32, generator=generator)


def test_every_term_carries_its_weight(encoder: RepresentationEncoder) -> None:
    image, target = pair()
    config = ReconstructionLoss.Config(l1=2.0, gradient=3.0, encoder=0.5, gram=7.0, gram_layers=(1, -1))
    terms = ReconstructionLoss(config, encoder, CPU).terms(image, target, 0)
    torch.testing.assert_close(terms["l1"], 2 * l1(image, target))
    torch.testing.assert_close(terms["gradient"], 3 * gradient_l1(image, target))
    torch.testing.assert_close(terms["encoder"], 0.5 * (encoder(image) - encoder(target)).square().mean())
    features = EncoderFeatures(encoder, (1, -1))
    gram = gram_distance(features.taps(image), features.taps(target))
    torch.testing.assert_close(terms["gram"], 7 * gram)


def test_known_tokens_give_the_same_term(encoder: RepresentationEncoder) -> None:
    image, target = pair()
    loss = ReconstructionLoss(ReconstructionLoss.Config(encoder=1.0), encoder, CPU)
    known = loss.terms(image, target, 0, encoder(target))["encoder"]
    torch.testing.assert_close(known, loss.terms(image, target, 0)["encoder"])


def test_a_weight_of_nought_costs_nothing_and_a_late_term_rests() -> None:
    image, target = pair()
    loss = ReconstructionLoss(ReconstructionLoss.Config(l1=1.0), None, CPU)
    assert set(loss.terms(image, target, 0)) == {"l1"}


def test_gram_sets_in_at_its_step(encoder: RepresentationEncoder) -> None:
    image, target = pair()
    loss = ReconstructionLoss(ReconstructionLoss.Config(gram=1.0, gram_start_steps=5), encoder, CPU)
    assert "gram" not in loss.terms(image, target, 4) and "gram" in loss.terms(image, target, 5)


def test_looking_through_no_encoder_is_refused() -> None:
    for weights in ({"gram": 1.0}, {"encoder": 1.0}):
        with pytest.raises(UserError, match="set loss_encoder"):
            ReconstructionLoss(ReconstructionLoss.Config(**weights), None, CPU).terms(*pair(), 0)


def test_lpips_without_its_files_is_refused() -> None:
    with pytest.raises(ValidationError, match="lpips: give lpips_vgg and lpips_heads"):
        ReconstructionLoss.Config(lpips=1.0)


def test_a_variational_space_brings_its_own_term() -> None:
    loss = ReconstructionLoss(ReconstructionLoss.Config(kl=0.5), None, CPU)
    assert loss.own_terms({"kl": torch.tensor(4.0)})["kl"].item() == 2.0
