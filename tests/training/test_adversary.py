"""Fooling and telling: which weights feel which loss, and chance that belongs to the sample."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
from raekit.training.adversary import Adversary
from raekit.training.draws import Draws

CPU = torch.device("cpu")


@pytest.fixture
def adversary(tmp_path: Path) -> Adversary:
    torch.manual_seed(0)
    config = Adversary.Config.model_validate(
        {"discriminator": {"name": "features", "backbone": "encoder", "kernel_size": 3}}
    )
    return Adversary(config, tiny_encoders.build("nano", tmp_path), CPU)


def pictures(seed: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_a_sharper_opponent_tells_after_some_steps(adversary: Adversary) -> None:
    real, fake = pictures(0), pictures(1) * 0.3
    optimizer = torch.optim.Adam(adversary.discriminator.parameters(), lr=2e-3)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        terms = adversary.tell(real, fake, Draws(step, range(4)))
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < losses[0]


def test_the_reconstruction_feels_only_the_decoders_loss(adversary: Adversary) -> None:
    fake = pictures(1).requires_grad_()
    adversary.tell(pictures(0), fake, Draws(0, range(4)))["loss"].backward()
    assert fake.grad is None
    adversary.fool(fake, Draws(0, range(4))).backward()
    assert fake.grad is not None and fake.grad.any()


def test_the_augmentation_belongs_to_the_sample(adversary: Adversary) -> None:
    image = pictures(0)
    whole = adversary.fool(image, Draws(0, range(4)))
    parts = [adversary.fool(image[part], Draws(0, range(4)[part])) for part in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(whole, (parts[0] + 3 * parts[1]) / 4)


def test_a_fixed_weight_ignores_the_gradients() -> None:
    config = Adversary.Config.model_validate({"weight": 10, "is_adaptive": False})
    fixed = Adversary.__new__(Adversary)
    fixed.config = config
    assert fixed.balance(torch.ones(3), torch.ones(3) * 100).item() == 10
