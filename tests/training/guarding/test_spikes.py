"""Robust limits on the device: what is a spike, what is not, and what never becomes the usual."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor

from raekit.training.guarding.spikes import GAUSSIAN, Limit, Window

YES = torch.tensor(True)
FIVE = Limit(5.0)


def filled(values: list[float], size: int = 8, limit: Limit = FIVE) -> Window:
    window = Window({"loss": limit}, size, "cpu")
    for value in values:
        window.add(torch.tensor([value]), YES)
    return window


def is_spike(window: Window, *values: float) -> bool:
    return bool(window.is_spike(torch.tensor(values)))


def test_the_limit_is_the_median_plus_robust_deviations() -> None:
    seen = [3.0, 1.0, 2.0, 4.0, 9.0, 2.5, 3.5, 1.5]  # the ninth of nine would be an outlier of the mean
    middle = statistics.median_low(seen)
    limit = middle + 5 * GAUSSIAN * statistics.median_low([abs(v - middle) for v in seen])
    window = filled(seen)
    assert not is_spike(window, limit - 1e-4)
    assert is_spike(window, limit + 1e-4)
    assert not is_spike(window, -1e9)  # only what is too high is a spike


def test_only_the_last_accepted_values_count() -> None:
    window = filled([100.0, 101.0, 99.0, 100.0])
    for value in (1.0, 2.0, 3.0, 1.5, 2.5, 1.0, 2.0, 3.0):
        window.add(torch.tensor([value]), YES)
    assert is_spike(window, 50.0)
    before = window.state()
    window.add(torch.tensor([50.0]), torch.tensor(False))
    assert window.state() == before


def test_nothing_is_judged_too_early_or_where_all_is_the_same() -> None:
    assert not is_spike(filled([1.0, 1.1, 0.9]), 1e9)  # not half full
    assert is_spike(filled([1.0, 1.1, 0.9, 1.05]), 1e9)
    assert not is_spike(filled([0.0] * 8), 1e9)  # a hinge loss that is always met


def test_a_quiet_window_still_leaves_a_share_of_the_median() -> None:
    quiet = [1.0, 1.001, 0.999, 1.0005] * 2
    assert is_spike(filled(quiet), 1.2)
    assert not is_spike(filled(quiet, limit=Limit(5.0, 0.5)), 1.2)
    assert is_spike(filled(quiet, limit=Limit(5.0, 0.5)), 1.6)


def test_each_value_has_its_own_limit_and_none_is_no_limit() -> None:
    window = Window({"loss": Limit(5.0), "free": Limit(None)}, 4, "cpu")
    for value in (1.0, 1.2, 0.8, 1.1):
        window.add(torch.tensor([value, value]), YES)
    assert not is_spike(window, 1.0, 1e9)
    assert is_spike(window, 1e9, 1.0)


@pytest.mark.parametrize("count", [0, 3, 8, 13])
def test_state_is_restored_to_the_bit_oldest_first(count: int) -> None:
    values = (torch.arange(count) / 7).sin().tolist()
    window, other = filled(values), filled([5.0] * 3)
    other.load_state(window.state())
    assert other.state() == window.state() == {"loss": values[-8:]}
    for value in (0.3, 0.4, 0.5):
        for one in (window, other):
            one.add(torch.tensor([value]), YES)
    assert other.state() == window.state()


def test_another_size_keeps_the_newest_and_other_names_start_anew() -> None:
    small = filled([], size=2)
    small.load_state({"loss": [1.0, 2.0, 3.0]})
    assert small.state() == {"loss": [2.0, 3.0]}
    small.load_state({"reconstruction": [1.0]})
    assert small.state() == {"loss": []}


def test_ordinary_noise_of_a_falling_loss_is_never_a_spike() -> None:
    noise: Tensor = torch.randn(800, generator=torch.Generator().manual_seed(0))
    steps = torch.arange(800)
    losses = (1 + torch.exp(-steps / 200)) * torch.exp(0.1 * noise)
    window = Window({"loss": Limit(10.0, 0.5)}, 128, "cpu")
    flags = []
    for loss in losses:
        flags.append(window.is_spike(loss[None]))
        window.add(loss[None], ~flags[-1])
    assert not any(flags)
    assert is_spike(window, 3 * float(losses[-128:].median()))
