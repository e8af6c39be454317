"""One picture with its caption, and the contract of everything that yields them.

In: nothing. Out: :class:`Sample`, uint8 pixels as they lie on disk (they become float [0, 1] only on the device, see
:mod:`raekit.data.transforms`), and :class:`Source`, a data set that is read by index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raekit import config
from raekit.data.fingerprint import fingerprint_of, names_digest

Pixels = NDArray[np.uint8]

ENDLESS = 1 << 40
"""The length of a source that is made on the fly, or that begins anew by itself."""


@dataclass(frozen=True)
class Sample:
    """A picture, what it shows, and whatever else is known about it.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB or ``[H, W, 4]`` RGBA (straight, not premultiplied, alpha).
        caption: the canonical caption; empty where there is none.
        key: a name that is unique within its source.
        metadata: everything else, such as ``alternatives`` (further captions), ``label`` (class index), ``split``,
            ``licence``, or the true boxes of a composed scene.
    """

    image: Pixels
    caption: str
    key: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def captions(self) -> list[str]:
        """The canonical caption first, then the alternatives."""
        return [self.caption, *self.metadata.get("alternatives", ())]

    @property
    def label(self) -> int | None:
        """The class index, for sources that have classes."""
        return whole_number(self.metadata.get("label"))


class BadSample(Exception):
    """One picture of a source cannot be read; whoever reads counts it and takes another one.

    Args:
        reason: what is wrong, with the sample's name.
        skip: how many samples further on to try: past all that is broken with it, such as the rest of its shard.
    """

    def __init__(self, reason: str, skip: int = 1) -> None:
        super().__init__(reason)
        self.skip = skip


class PartConfig(config.Config):
    """What the settings of every source have, of pictures or of conversations, so that several can be mixed."""

    name: str
    """Which source."""
    weight: float = Field(1.0, gt=0)
    """Share in a mixture, relative to the other weights."""
    domain: str = ""
    """Name in logs and batches; by default the source's own name, numbered where several would share it."""


class SourceConfig(PartConfig):
    """What the settings of every source of pictures have."""

    name: str
    """Which source: a row of :data:`raekit.data.DATASETS`."""


class Source(ABC):
    """A map-style data set with deterministic content: ``source[index]`` is always the same sample.

    ``is_mirrorable`` says whether a picture may be flipped: not where it holds letters, or where left and right are
    part of the caption. ``is_croppable`` says whether its edges may be cut off at random: not where words or counted
    things reach them.
    """

    is_mirrorable: bool = True
    is_croppable: bool = True
    left_out: Mapping[str, str] = {}
    """What was found unusable when the source was opened, so that no index leads to it: why, by its name."""
    config: Any = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples; :data:`ENDLESS` for a source made on the fly, which is an :class:`Endless`."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index`` in ``[0, len)``.

        Raises:
            BadSample: this picture cannot be read; the others can.
        """

    @property
    def is_endless(self) -> bool:
        """Whether indices go on for ever: samples are made on the fly, or a stream begins anew at its end."""
        return len(self) >= ENDLESS

    @property
    def is_drawn(self) -> bool:
        """Whether samples are made on the fly, so that their shape is as it should be."""
        return self.is_endless

    def key_of(self, index: int) -> str:
        """The name of a sample, of one that cannot be read too."""
        return str(index)

    def order(self, seed: Sequence[int]) -> Sequence[int] | NDArray[np.int64]:
        """A random order of all indices of a finite source, the same for the same seed; of an epoch of training."""
        return np.random.default_rng(list(seed)).permutation(len(self))

    def expect(self, indices: range) -> None:
        """These samples will be read next; a source that fetches from afar begins to."""
        del indices

    def fingerprint(self) -> str:
        """Hexadecimal digits that change when any sample may have changed: what a cache of the samples hangs on.

        Sources of files look at their names, sizes and ends (``fingerprint.py``); others at their settings.
        """
        return fingerprint_of([type(self).__name__, len(self), repr(self.config)])

    def order_fingerprint(self) -> str:
        """Digits that change when an index may lead to another sample; cheap enough for every start of a run.

        Unlike :meth:`fingerprint` they say nothing of the samples' content, and a source that was moved keeps them.
        """
        return self.fingerprint() if self.is_endless else names_digest(len(self), self.key_of)


class Endless(Source):
    """A source that never ends, whatever its settings: it can be told by its kind, before anything is opened."""

    def __len__(self) -> int:
        return ENDLESS


def whole_number(value: Any) -> int | None:
    """``7``, ``"7"`` or ``7.0`` as 7; nothing for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    is_exact = not isinstance(value, float | bool) or (isinstance(value, float) and value == number)
    return number if is_exact else None
