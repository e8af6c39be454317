"""Sources around a source: checked for shape, or kept in memory.

In: a source. Out: the same samples at the same indices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raekit.data.sample import BadSample, Sample, Source

MAX_ASPECT = 20
"""Longer side over shorter side: above it a picture is a line, and scaling its short side up would fill the memory."""


class Wrapped(Source):
    """The same samples at the same indices.

    Args:
        source: whose samples they are.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.config = source.config
        self.is_mirrorable, self.is_croppable = source.is_mirrorable, source.is_croppable
        self.left_out = source.left_out

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        return self._source[index]

    def key_of(self, index: int) -> str:
        return self._source.key_of(index)

    def order(self, seed: Sequence[int]) -> Sequence[int] | NDArray[np.int64]:
        return self._source.order(seed)

    def expect(self, indices: range) -> None:
        self._source.expect(indices)

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    def order_fingerprint(self) -> str:
        return self._source.order_fingerprint()


class Checked(Wrapped):
    """A source whose pictures have a usable shape and, where they are told by their captions, one.

    Args:
        source: whose samples are checked.
        min_side: least pixels of the shorter side.
        is_captioned: samples without a caption are of no use.
    """

    def __init__(self, source: Source, min_side: int, is_captioned: bool = False) -> None:
        super().__init__(source)
        self._min_side, self._is_captioned = min_side, is_captioned

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        if self._is_captioned and not sample.caption.strip():
            raise BadSample(f"{sample.key}: no caption, and this run learns from captions")
        height, width = sample.image.shape[:2]
        short, long = sorted((height, width))
        if short < self._min_side:
            raise BadSample(f"{sample.key}: {width} x {height} pixels, less than min_side {self._min_side}")
        if long > MAX_ASPECT * short:
            raise BadSample(f"{sample.key}: {width} x {height} pixels, {MAX_ASPECT} times longer than wide")
        return sample


class InMemory(Wrapped):
    """A finite source whose decoded samples stay in memory once they were read."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._held: dict[int, Sample] = {}

    def __getitem__(self, index: int) -> Sample:
        if index not in self._held:
            self._held[index] = self._source[index]
        return self._held[index]
