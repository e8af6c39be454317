"""Which blocks a loss reads: quarters, and numbers counted from either end."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.losses.taps import count_from_one, quarters


@pytest.mark.parametrize(
    ("depth", "expected"), [(12, (3, 6, 9, 12)), (24, (6, 12, 18, 24)), (27, (6, 13, 20, 27)), (2, (1, 2)), (1, (1,))]
)
def test_each_quarter_ends_in_a_tap(depth: int, expected: tuple[int, ...]) -> None:
    assert quarters(depth) == expected


def test_negative_blocks_count_from_the_end() -> None:
    assert count_from_one((-1, 3, -12, 12), 12) == (12, 3, 1, 12)


@pytest.mark.parametrize("layer", [0, 13, -13])
def test_a_block_that_is_not_there_is_told(layer: int) -> None:
    with pytest.raises(UserError, match=f"no block {layer} in a network of 12"):
        count_from_one((1, layer), 12)
