"""Numbers as they are typed."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.studies.base import numbers


def test_numbers_are_sorted_and_told_once() -> None:
    assert numbers("8, 1,4,8", "candidates") == [1, 4, 8]


@pytest.mark.parametrize("text", ["", "1,,2", "a", "0,1", "1.5"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(UserError, match="candidates: '.*' are no whole numbers from 1"):
        numbers(text, "candidates")
