from __future__ import annotations

import pytest

from raekit.data.stream_order import StreamOrder, Turns

COUNTS = [7, 3, 0, 12, 5, 9, 1]


@pytest.mark.parametrize("lanes", [1, 2, 3, 7])
@pytest.mark.parametrize("run", [1, 4])
@pytest.mark.parametrize("buffer", [1, 5, 1000])
def test_an_epoch_has_every_sample_once(lanes: int, run: int, buffer: int) -> None:
    order = StreamOrder(COUNTS, [3], buffer, lanes, run)
    assert sorted(order[step] for step in range(len(order))) == list(range(sum(COUNTS)))


def test_any_step_is_found_without_those_before_it() -> None:
    whole = StreamOrder(COUNTS, [3, 1], 6, 2, 2)
    steps = [whole[step] for step in range(len(whole))]
    for step in (36, 0, 17, 17, 30):
        assert StreamOrder(COUNTS, [3, 1], 6, 2, 2)[step] == steps[step]
    assert [StreamOrder(COUNTS, [3, 2], 6, 2, 2)[step] for step in range(37)] != steps


def test_samples_move_no_further_than_the_buffer() -> None:
    order = StreamOrder([50] * 4, [0], buffer=20)
    straight = StreamOrder([50] * 4, [0], buffer=1)
    for step in range(200):
        window = [straight[place] for place in range(step // 20 * 20, step // 20 * 20 + 20)]
        assert order[step] in window
    assert [order[step] for step in range(20)] != [straight[step] for step in range(20)]


def test_processes_that_divide_the_lanes_meet_only_their_own_shards() -> None:
    """Batches of lanes x run: the contiguous slice of a process lies within its lanes."""
    counts, lanes, run, world = [24] * 8, 4, 3, 2
    order, batch = StreamOrder(counts, [5], 10, lanes, run), lanes * run
    met: list[set[int]] = [set(), set()]
    for step in range(len(order)):
        met[step % batch * world // batch].add(order[step] // 24)
    assert met[0] | met[1] == set(range(8)) and not met[0] & met[1]


def test_shards_are_announced_a_window_ahead() -> None:
    told: list[int] = []
    order = StreamOrder([10] * 6, [1], buffer=10, expect=told.extend)
    order[0]
    assert len(told) == 2 and order[0] // 10 == told[0] and order[10] // 10 == told[1]


def test_lanes_that_are_through_leave_their_turns_to_the_others() -> None:
    turns = Turns([5, 2, 0], run=2)
    assert [turns.locate(step) for step in range(7)] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (0, 4)]
