from __future__ import annotations

import numpy as np
import pytest

from raekit.data.sample import ENDLESS, Endless, Sample, Source, whole_number


def test_a_sample_lists_its_captions_and_label() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    sample = Sample(image, "a dog", "k", {"alternatives": ["dog"], "label": "3"})
    assert sample.captions == ["a dog", "dog"]
    assert sample.label == 3
    assert Sample(image, "a dog").captions == ["a dog"]
    assert Sample(image, "").label is None


@pytest.mark.parametrize(("length", "is_endless"), [(5, False), (ENDLESS, True)])
def test_a_source_knows_whether_it_ends(length: int, is_endless: bool) -> None:
    class Counted(Source):
        def __len__(self) -> int:
            return length

        def __getitem__(self, index: int) -> Sample:
            return Sample(np.zeros((1, 1, 3), np.uint8), str(index))

    assert Counted().is_endless is is_endless


def test_an_endless_kind_says_so_of_each_of_its_sources() -> None:
    class Drawn(Endless):
        def __getitem__(self, index: int) -> Sample:
            return Sample(np.zeros((1, 1, 3), np.uint8), str(index))

    assert len(Drawn()) == ENDLESS and Drawn().is_endless


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), ("7", 7), (b"7\n", 7), (7.0, 7), (7.5, None), (True, None), ("dog", None), ([1], None)],
)
def test_a_class_index_is_a_whole_number(value: object, number: int | None) -> None:
    assert whole_number(value) == number
    assert Sample(np.zeros((1, 1, 3), np.uint8), "", metadata={"label": value}).label == number
