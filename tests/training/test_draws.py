"""Draws belong to positions: cutting or reordering a batch changes no number."""

from __future__ import annotations

import torch

from raekit.training.draws import Draws, mix


def test_a_cut_batch_has_the_same_numbers() -> None:
    whole = Draws(3, range(8))
    parts = [Draws(3, range(0, 3)), Draws(3, torch.arange(3, 8))]
    assert torch.equal(whole.uniform(0), torch.cat([part.uniform(0) for part in parts]))
    assert torch.equal(whole.normal(1, (2, 3)), torch.cat([part.normal(1, (2, 3)) for part in parts]))


def test_asking_twice_gives_the_same_and_purposes_differ() -> None:
    draws = Draws(0, range(4))
    assert torch.equal(draws.normal(0, (5,)), draws.normal(0, (5,)))
    assert not torch.equal(draws.normal(0, (5,)), draws.normal(1, (5,)))
    assert not torch.equal(draws.normal(0, (5,)), Draws(1, range(4)).normal(0, (5,)))


def test_neighbouring_positions_are_unrelated() -> None:
    values = Draws(0, range(4000)).uniform(0)
    assert abs(values.mean().item() - 0.5) < 0.02
    neighbours = torch.corrcoef(torch.stack([values[:-1], values[1:]]))[0, 1]
    assert abs(neighbours.item()) < 0.05


def test_mix_is_a_seed_of_torch_and_depends_on_the_order() -> None:
    seeds = {mix(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
