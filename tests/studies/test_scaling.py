"""Shares and costs on paper."""

from __future__ import annotations

import pytest
import torch

from raekit.studies.scaling import Timing, best_share, cost, over_tasks, random_share

SCORES = torch.tensor([[0.1, 0.9, 0.5, 0.2], [3.0, 1.0, 2.0, 4.0]])
RIGHT = torch.tensor([[True, False, True, False], [False, False, True, True]])


def test_the_best_of_all() -> None:
    assert best_share(SCORES, RIGHT, 4, 1).tolist() == [0, 1]
    assert best_share(SCORES, RIGHT, 4, 2).tolist() == [0.5, 0.5]


def test_small_groups_are_averaged() -> None:
    # Prompt 0: of (0, 1) the second, wrong; of (2, 3) the first, right. Prompt 1: wrong, right.
    assert best_share(SCORES, RIGHT, 2, 1).tolist() == [0.5, 0.5]
    assert best_share(SCORES, RIGHT, 1, 1).tolist() == random_share(RIGHT).tolist() == [0.5, 0.5]
    # A group that is not whole is left out.
    assert best_share(SCORES, RIGHT, 3, 1).tolist() == [0, 0]


def test_of_equal_ones_the_earlier_wins() -> None:
    assert best_share(torch.zeros(2, 4), RIGHT, 4, 1).tolist() == [1, 0]


def test_those_that_were_dropped_are_not_chosen() -> None:
    estimates = torch.tensor([[9.0, 0, 8, 0], [9, 8, 0, 0]])
    assert best_share(SCORES, RIGHT, 4, 1, estimates, 2).tolist() == [1, 0]


def test_keeping_everything_is_choosing_by_chance() -> None:
    torch.testing.assert_close(best_share(SCORES, RIGHT, 4, 4), random_share(RIGHT))


def test_tasks_count_alike() -> None:
    mean = over_tasks(torch.tensor([1.0, 0.0, 1.0]), ["counting", "counting", "colors"])
    assert mean.value == pytest.approx(0.75)
    # The standard error of (1, 0) is 0.5, that of a single prompt is not known and taken as 0.
    assert mean.standard_error == pytest.approx(0.25)


def test_seconds_and_the_share_of_verification() -> None:
    timing = Timing(draw=2.0, verify=0.5, decode=1.0)
    assert cost(timing, 8, 1) == pytest.approx((21.0, 4 / 21))
    assert cost(timing, 8, 4) == pytest.approx((24 / 4, 4 / 24))
    # Half of the way for all, the rest for half: 12 seconds, and 12 verdicts.
    assert cost(timing, 8, 1, num_left=4, walked=0.5) == pytest.approx((12 + 6 + 1, 6 / 19))
