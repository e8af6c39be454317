from __future__ import annotations

import numpy as np
import pytest

from raekit.data.sample import BadSample, Sample, Source
from raekit.data.wrapped import MAX_ASPECT, Checked, InMemory


class Sizes(Source):
    is_mirrorable = is_croppable = False

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes, self.num_read = sizes, 0

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        self.num_read += 1
        return Sample(np.zeros((*self.sizes[index], 3), np.uint8), "", f"k{index}")


def test_pictures_of_a_usable_shape_pass() -> None:
    source = Checked(Sizes((8, 9), (9, 8), (8, 8 * MAX_ASPECT)), min_side=8)
    assert [source[index].key for index in range(len(source))] == ["k0", "k1", "k2"]
    assert not source.is_mirrorable and not source.is_croppable


@pytest.mark.parametrize(
    ("size", "sentence"),
    [((1, 1), "k0: 1 x 1 pixels, less than min_side 8"), ((100, 7), "7 x 100"), ((8, 161), "20 times longer")],
)
def test_others_are_bad_samples(size: tuple[int, int], sentence: str) -> None:
    with pytest.raises(BadSample, match=sentence):
        Checked(Sizes(size), min_side=8)[0]


def test_samples_in_memory_are_read_once_but_bad_ones_never_kept() -> None:
    inner = Sizes((8, 8), (1, 1))
    source = InMemory(Checked(inner, min_side=8))
    assert source[0] is source[0]
    for _ in range(2):
        with pytest.raises(BadSample):
            source[1]
    assert inner.num_read == 3
    assert not source.is_mirrorable and not source.is_croppable and len(source) == 2
