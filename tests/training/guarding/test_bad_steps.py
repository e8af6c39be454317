"""Counting on the device what the host reads later."""

from __future__ import annotations

import torch

from raekit.training.guarding.bad_steps import BadSteps, Row


def counted(*flags: int, start: int = 0) -> BadSteps:
    bad = BadSteps("cpu")
    for step, flag in enumerate(flags, start):
        bad.add(torch.tensor(float(flag)), step)
    return bad


def test_the_longest_row_since_the_last_reading_is_told() -> None:
    bad = counted(1, 1, 1, 0, 1)
    assert (bad.now, bad.read()) == (1, Row(3, 0))
    assert bad.read() == Row(1, 4)  # the row that is still going on goes on counting
    bad.add(torch.tensor(1.0), 5)
    assert (bad.now, bad.read()) == (2, Row(2, 4))
    bad.now = 7
    bad.add(torch.tensor(0.0), 6)
    assert bad.now == 0


def test_of_two_rows_the_longer_one_is_placed() -> None:
    assert counted(0, 1, 0, 1, 1, 0, start=10).read() == Row(2, 13)
    assert counted(0, 1, 1, 0, 1, 0, start=10).read() == Row(2, 11)
    assert counted(0, 0).read().length == 0


def test_a_row_that_was_over_when_it_was_loaded_is_not_told_again() -> None:
    bad = counted(1, 1, 1)
    bad.load_state(counted(0, 1, 1, 1, 1, 1).state())
    assert bad.now == 5
    for step in (6, 7):
        bad.add(torch.zeros(()), step)
    assert bad.read().length == 0
    bad.load_state({"bad_steps": 2})
    bad.add(torch.ones(()), 8)
    assert bad.read() == Row(3, 6)


def test_a_row_goes_on_after_a_resume() -> None:
    bad = counted()
    bad.load_state(counted(0, 1, 1).state())
    bad.add(torch.ones(()), 3)
    assert bad.read() == Row(3, 1)
