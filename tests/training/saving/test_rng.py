"""Every generator of a process comes back where it was."""

from __future__ import annotations

import random

import numpy as np
import torch

from raekit.training.saving.rng import rng_state, set_rng_state, spread


def drawn() -> list[float]:
    return [float(torch.rand(())), random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]


def test_what_is_drawn_after_comes_again() -> None:
    random.gauss(0, 1), np.random.randn()  # each keeps the second of a pair of numbers
    state = {name: value.clone() for name, value in rng_state().items()}
    first = drawn()
    assert drawn() != first
    set_rng_state(state)
    assert drawn() == first


def test_processes_that_are_added_draw_apart() -> None:
    kept = rng_state()
    draws = []
    for rank in (2, 3, 2):
        spread(seed=0, rank=rank)
        draws.append(drawn()[:4])
    set_rng_state(kept)
    assert draws[0] == draws[2] and draws[0] != draws[1]
