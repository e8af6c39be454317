"""Sources around a source: checked for shape, or kept in memory.

In: a finite source. Out: the same samples at the same indices.
"""

from __future__ import annotations

from raekit.data.sample import BadSample, Sample, Source

MAX_ASPECT = 20
"""Longer side over shorter side: above it a picture is a line, and scaling its short side up would fill the memory."""


class Checked(Source):
    """A finite source whose pictures have a usable shape.

    Args:
        source: whose samples are checked.
        min_side: least pixels of the shorter side.
    """

    def __init__(self, source: Source, min_side: int) -> None:
        self._source = source
        self._min_side = min_side
        self.is_mirrorable, self.is_croppable = source.is_mirrorable, source.is_croppable

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        height, width = sample.image.shape[:2]
        short, long = sorted((height, width))
        if short < self._min_side:
            raise BadSample(f"{sample.key}: {width} x {height} pixels, less than min_side {self._min_side}")
        if long > MAX_ASPECT * short:
            raise BadSample(f"{sample.key}: {width} x {height} pixels, {MAX_ASPECT} times longer than wide")
        return sample


class InMemory(Source):
    """A finite source whose decoded samples stay in memory once they were read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._held: dict[int, Sample] = {}
        self.is_mirrorable, self.is_croppable = source.is_mirrorable, source.is_croppable

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._held:
            self._held[index] = self._source[index]
        return self._held[index]
