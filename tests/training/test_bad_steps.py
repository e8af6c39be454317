"""Counting on the device what the host reads later."""

from __future__ import annotations

import torch

from raekit.training.bad_steps import BadSteps


def test_the_longest_run_since_the_last_reading_is_told() -> None:
    bad = BadSteps("cpu")
    for flag in (1.0, 1.0, 1.0, 0.0, 1.0):
        bad.add(torch.tensor(flag))
    assert (bad.now, bad.read()) == (1, 3)
    assert bad.read() == 1  # the run that is still going on goes on counting
    bad.add(torch.tensor(1.0))
    assert (bad.now, bad.read()) == (2, 2)
    bad.now = 7
    bad.add(torch.tensor(0.0))
    assert bad.now == 0
