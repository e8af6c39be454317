"""Adversarial losses at logits whose loss is known on paper; whole batches are in ``parity/cases_losses.py``."""

from __future__ import annotations

import math

import pytest
import torch

from raekit.losses.adversarial import accuracy, adaptive_weight, discriminator_loss, generator_loss, quantise


def test_hinge_is_zero_beyond_the_margin_and_one_at_a_coin_toss() -> None:
    assert discriminator_loss("hinge", torch.full((2, 3), 1.5), torch.full((2, 3), -1.0)) == 0
    assert discriminator_loss("hinge", torch.zeros(2, 3), torch.zeros(2, 3)) == 1
    assert discriminator_loss("hinge", torch.full((1, 1), -1.0), torch.full((1, 1), 1.0)) == 2


@pytest.mark.parametrize("kind", ["vanilla", "non_saturating"])
def test_the_logistic_loss_of_a_coin_toss_is_log_two(kind) -> None:
    zeros = torch.zeros(2, 3)
    assert discriminator_loss(kind, zeros, zeros).item() == pytest.approx(math.log(2))
    assert discriminator_loss(kind, zeros + 50, zeros - 50) < 1e-20


def test_the_generator_raises_logits_everywhere_or_where_they_are_low() -> None:
    logits = torch.tensor([[-2.0, 4.0]], requires_grad=True)
    assert generator_loss("hinge", logits) == generator_loss("vanilla", logits) == -1
    generator_loss("non_saturating", logits).backward()
    expected = -torch.sigmoid(-logits.detach()) / 2
    torch.testing.assert_close(logits.grad, expected)


def test_accuracy_counts_pairs_in_the_right_order() -> None:
    assert accuracy(torch.tensor([[1.0, 0.0, -1.0, 3.0]]), torch.tensor([[0.0, 0.0, -2.0, 4.0]])) == 0.5


def test_the_adaptive_weight_balances_the_norms() -> None:
    reconstruction, adversarial = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.5]], requires_grad=True)
    weight = adaptive_weight(reconstruction, adversarial * 1.0)
    assert weight.item() == pytest.approx(10, rel=1e-5) and not weight.requires_grad
    assert adaptive_weight(reconstruction, torch.zeros(1)) == 1e4
    assert adaptive_weight(reconstruction, torch.zeros(1), limit=7) == 7
    assert adaptive_weight(torch.zeros(1), reconstruction) == 0


def test_quantised_pictures_are_those_of_a_png() -> None:
    levels = torch.arange(256) / 255
    torch.testing.assert_close(quantise(levels + 0.4 / 255), levels)
    assert torch.equal(quantise(torch.tensor([-0.2, 1.3])), torch.tensor([0.0, 1.0]))
    assert not quantise(torch.rand(2, requires_grad=True)).requires_grad
