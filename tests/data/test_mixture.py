from __future__ import annotations

import numpy as np
import pytest

from raekit.data.mixture import CYCLE, Domain, Mixture, build_schedule, domain_names
from raekit.data.sample import ENDLESS, Sample, Source, SourceConfig
from raekit.errors import UserError


class Numbers(Source):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((1, 1, 3), np.uint8), str(index))


def mixture(*parts: tuple[int, float], **settings) -> Mixture:
    return Mixture([Domain(str(n), Numbers(length), weight) for n, (length, weight) in enumerate(parts)], **settings)


@pytest.mark.parametrize("weights", [(1, 1), (0.7, 0.2, 0.1), (5, 3, 1, 1), (1, 999)])
def test_any_stretch_holds_the_shares(weights: tuple[float, ...]) -> None:
    """Counts over every window of a doubled cycle stay within a sample or two of their share."""
    schedule = build_schedule(weights)
    assert len(schedule) == CYCLE
    shares = np.asarray(weights) / sum(weights)
    turns = np.eye(len(weights))[np.concatenate([schedule, schedule])]
    counts = np.concatenate([np.zeros((1, len(weights))), turns.cumsum(axis=0)])
    for length in (10, 137, 1000):
        windows = counts[length:] - counts[:-length]
        assert np.abs(windows - shares * length).max() <= 2.0


def test_every_visit_is_the_next_sample_of_its_domain() -> None:
    """The k-th visit computed at once is the k-th visit counted along the way."""
    mixed = mixture((ENDLESS, 3), (ENDLESS, 1.3), (ENDLESS, 0.7))
    visits = [0, 0, 0]
    for position in range(2500):
        place = mixed.locate(position)
        assert place.index == visits[place.domain]
        visits[place.domain] += 1
    assert visits == [1500, 650, 350]


@pytest.mark.parametrize("weights", [(1,), (3, 1.3, 0.7)])
def test_counts_before_a_position_are_those_counted_along_the_way(weights: tuple[float, ...]) -> None:
    mixed = mixture(*((ENDLESS, weight) for weight in weights))
    counted = dict.fromkeys(map(str, range(len(weights))), 0)
    for position in range(2 * CYCLE + 300):
        assert mixed.counts(position) == counted
        counted[str(mixed.locate(position).domain)] += 1
    assert sum(mixed.counts(12_345_678).values()) == 12_345_678


def test_domains_of_one_name_are_counted_together() -> None:
    mixed = Mixture([Domain("a", Numbers(5), 1), Domain("b", Numbers(5), 1), Domain("a", Numbers(5), 2)])
    assert mixed.counts(40) == {"a": 30, "b": 10}


def test_a_finite_source_is_gone_through_once_each_epoch() -> None:
    mixed = mixture((7, 1), (ENDLESS, 2))
    indices = [place.index for place in map(mixed.locate, range(90)) if place.domain == 0]
    epochs = [indices[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_follows_from_the_seed_alone() -> None:
    first, second, other = (mixture((50, 1), (9, 1), seed=seed) for seed in (3, 3, 4))
    places = [[mixed.locate(position) for position in range(300)] for mixed in (first, second, other)]
    assert places[0] == places[1]
    assert places[0] != places[2]
    assert second.locate(12_345_678) == first.locate(12_345_678)


def test_domains_of_equal_length_are_shuffled_differently() -> None:
    mixed = mixture((40, 1), (40, 1))
    orders: dict[int, list[int]] = {0: [], 1: []}
    for place in map(mixed.locate, range(80)):
        orders[place.domain].append(place.index)
    assert orders[0] != orders[1]


def test_without_shuffling_the_order_is_the_sources_own() -> None:
    mixed = mixture((5, 1), is_shuffled=False)
    assert [mixed.locate(position).index for position in range(7)] == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize(
    ("parts", "length"), [([(7, 1.0)], 7), ([(10, 1.0), (ENDLESS, 3.0)], 40), ([(ENDLESS, 1.0)], None)]
)
def test_epoch_length(parts, length: int | None) -> None:
    assert mixture(*parts).epoch_length == length


def test_weights_too_small_and_empty_mixtures_are_refused() -> None:
    with pytest.raises(UserError, match="below 1/1000"):
        mixture((5, 1), (5, 1e-5))
    with pytest.raises(UserError, match="no source"):
        Mixture([])


def test_names_are_those_given_else_told_apart_by_numbers() -> None:
    given = [("a", ""), ("b", "a_2"), ("a", ""), ("a", "")]
    assert domain_names([SourceConfig(name=name, domain=domain) for name, domain in given]) == [
        "a",
        "a_2",
        "a_3",
        "a_4",
    ]
    with pytest.raises(UserError, match="mixture: domain 'x' is given to 2 sources"):
        domain_names([SourceConfig(name=name, domain="x") for name in "ab"])
