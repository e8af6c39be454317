"""Figures of one model, domain by domain, collected as pictures come in.

In: batches of real and made pictures. Out: :class:`Figures` for each domain and for all of them. What is kept is a
number per picture and sums that merge, so that neither the batch size nor the order of the domains shows in a figure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from raekit.data.transforms import to_float, to_uint8, to_uint8_truncated
from raekit.losses.perceptual import LPIPS
from raekit.metrics.features import FeatureNetwork
from raekit.metrics.frechet import Distance, FeatureStatistics, distance
from raekit.metrics.ocr import Recall, recall
from raekit.metrics.readers import Reader
from raekit.metrics.reconstruction import gradient_energy, psnr, ssim

PixelRule = Literal["rounded", "truncated", "exact"]

PIXELS: dict[PixelRule, str] = {
    "exact": "made pictures were clamped to [0,1] and not brought to 8 bits",
    "rounded": "made pictures were rounded to 8 bits, as they are when saved",
    "truncated": "made pictures were truncated to 8 bits, as in the published evaluations",
}
"""What becomes of the decoder's output before it is measured, in words. ``exact`` hides the batch size best: the last
digits of a network depend on it, and where a value lies between two levels, 8 bits make a whole level of them (some
1e-6 of a figure)."""


@dataclass(frozen=True)
class Mean:
    """A mean over pictures.

    Attributes:
        value: the mean.
        standard_error: of it; 0 for one picture.
    """

    value: float
    standard_error: float

    @classmethod
    def of(cls, values: Tensor) -> Mean:
        """Of the values ``[N]``, in float64."""
        values = values.double()
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        return cls(float(values.mean()), error)


@dataclass(frozen=True)
class Figures:
    """What was found on one domain, or on all.

    Attributes:
        num_images: pictures measured.
        means: ``psnr`` (dB), ``ssim``, ``lpips`` where pictures come in pairs.
        distances: Fréchet distances: ``fid`` (``rfid``), ``fd_nano`` (``rfd_nano``), ...
        sharpness: gradient energy of the made pictures over that of the real ones; below 1 is blurred.
        recall: words read, where pictures show any and there is a reader.
    """

    num_images: int
    means: dict[str, Mean]
    distances: dict[str, Distance]
    sharpness: float
    recall: Recall | None


@dataclass(frozen=True)
class Sight:
    """What the instruments saw in a batch of pictures.

    Attributes:
        features: ``[B,D]`` by the name of their distance.
        energy: gradient energy ``[B]``.
        readings: the text read in each; empty where none was looked for.
    """

    features: dict[str, Tensor]
    energy: Tensor
    readings: list[str]

    def to(self, device: torch.device) -> Sight:
        """The same on ``device``."""
        features = {name: value.to(device) for name, value in self.features.items()}
        return Sight(features, self.energy.to(device), self.readings)


@dataclass(frozen=True)
class Instruments:
    """What pictures are measured with.

    Attributes:
        features: networks for Fréchet distances, by the name of the distance.
        lpips: the learned distance, where its weights are at hand.
        reader: of text, where one is installed.
        pixels: what becomes of a decoder's output first; see :data:`PIXELS`.
    """

    features: Mapping[str, FeatureNetwork] = field(default_factory=dict)
    lpips: LPIPS | None = None
    reader: Reader | None = None
    pixels: PixelRule = "exact"

    def as_shown(self, image: Tensor) -> Tensor:
        """A decoder's output ``[B,3,S,S]`` as the picture in [0,1] that is measured."""
        if self.pixels == "exact":
            return image.float().clamp(0, 1)
        return to_float(to_uint8(image) if self.pixels == "rounded" else to_uint8_truncated(image))

    def look(self, image: Tensor, texts: Sequence[str]) -> Sight:
        """Features, sharpness, and the text of those pictures ``[B,3,S,S]`` that should show some."""
        features = {name: network(image) for name, network in self.features.items()}
        readings = [""] * len(image)
        written = [index for index, text in enumerate(texts) if text]
        if self.reader is not None and written:
            for index, reading in zip(written, self.reader(image[written]), strict=True):
                readings[index] = reading
        return Sight(features, gradient_energy(image), readings)

    def compare(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """``psnr``, ``ssim`` and perhaps ``lpips`` of each pair, ``[B]``."""
        found = {"psnr": psnr(image, target), "ssim": ssim(image, target)}
        return found if self.lpips is None else found | {"lpips": self.lpips.per_sample(image, target)}


class Ledger:
    """Figures of one model as pictures come in.

    Args:
        prefix: before the names of the distances; ``r`` for reconstructions, as in rFID.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._tallies: dict[str, _Tally] = {}

    def add(
        self, domains: Sequence[str], texts: Sequence[str], real: Sight, made: Sight, values: Mapping[str, Tensor]
    ) -> None:
        """Add a batch.

        Args:
            domains: of each picture.
            texts: the words each should show; empty for none.
            real: what was seen in the real pictures.
            made: what was seen in the made ones.
            values: further numbers for each picture, ``[B]`` by name.
        """
        for domain in dict.fromkeys(domains):
            rows = [index for index, name in enumerate(domains) if name == domain]
            self._tallies.setdefault(domain, _Tally()).add(rows, texts, real, made, values)

    def domains(self) -> dict[str, Figures]:
        """Figures by domain."""
        return {name: tally.figures(self._prefix) for name, tally in self._tallies.items()}

    def overall(self) -> Figures:
        """Figures over all pictures, whatever their domain."""
        return _Tally.merged(self._tallies.values()).figures(self._prefix)


class _Tally:
    """One domain's numbers and sums."""

    def __init__(self) -> None:
        self.values: defaultdict[str, list[Tensor]] = defaultdict(list)
        self.energies: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.statistics: dict[str, tuple[FeatureStatistics, FeatureStatistics]] = {}
        self.words: list[tuple[str, str, str]] = []
        """Of each picture with text: what it should say, the reading, the reading of the original."""

    @classmethod
    def merged(cls, tallies: Iterable[_Tally]) -> _Tally:
        whole = cls()
        for tally in tallies:
            for name, parts in tally.values.items():
                whole.values[name] += parts
            for mine, theirs in zip(whole.energies, tally.energies, strict=True):
                mine += theirs
            for name, pair in tally.statistics.items():
                for mine_statistics, statistics in zip(whole._of(name, pair[0].mean), pair, strict=True):
                    mine_statistics.merge(statistics)
            whole.words += tally.words
        return whole

    def add(
        self, rows: list[int], texts: Sequence[str], real: Sight, made: Sight, values: Mapping[str, Tensor]
    ) -> None:
        for name, value in values.items():
            self.values[name].append(value[rows].double().cpu())
        for energies, sight in zip(self.energies, (real, made), strict=True):
            energies.append(sight.energy[rows].cpu())
        for name in real.features:
            for statistics, sight in zip(self._of(name, real.features[name][0]), (real, made), strict=True):
                statistics.update(sight.features[name][rows])
        self.words += [(texts[row], made.readings[row], real.readings[row]) for row in rows if texts[row]]

    def figures(self, prefix: str) -> Figures:
        real, made = (torch.cat(parts).mean() for parts in self.energies)
        num_images = sum(len(part) for part in self.energies[0])
        distances = {name: distance(*pair) for name, pair in self.statistics.items()} if num_images > 1 else {}
        texts, readings, originals = zip(*self.words, strict=True) if self.words else ((), (), ())
        return Figures(
            num_images=num_images,
            means={name: Mean.of(torch.cat(parts)) for name, parts in self.values.items()},
            distances={f"{prefix}{name}": value for name, value in distances.items()},
            # Two plain pictures have no edges; neither is then sharper than the other.
            sharpness=float(made / real) if real else 1.0,
            recall=recall(texts, readings, originals),
        )

    def _of(self, name: str, like: Tensor) -> tuple[FeatureStatistics, FeatureStatistics]:
        """The sums of a network's features over real and made pictures."""
        if name not in self.statistics:
            self.statistics[name] = tuple(FeatureStatistics(len(like), like.device) for _ in range(2))  # type: ignore[assignment]
        return self.statistics[name]
