"""Latents and text features computed once, then read for every step.

In: a finite data set whose pictures are the same each time, a latent space, and what tells the generator: a conditioner
with fixed features, or the pictures' classes. Out:
:class:`CachedBatch` at any position of the same data stream. The encoder and the language model are frozen, so for a
data set of modest size almost all of a small generator's training time would go into computing the same numbers again.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from raekit import distributed
from raekit.autoencoder.base import Autoencoder
from raekit.conditioning.prompt import PromptConditioner
from raekit.data.cache import TensorCache
from raekit.data.dataset import Dataset, read_readable
from raekit.data.fingerprint import fingerprint_of
from raekit.data.quarantine import Quarantine
from raekit.data.readahead import in_order
from raekit.data.sample import Pixels, Sample
from raekit.data.storage import StoredPrecision
from raekit.data.transforms import CHANCE_CROPS, to_float
from raekit.device import ON_HOST
from raekit.errors import UserError
from raekit.liveness import phase, sign_of_life

_log = logging.getLogger(__name__)

CHUNK_ROWS = 256
ENCODE_BATCH = 64
"""Pictures encoded at once."""
READ_BATCH = 64
"""Captions read at once."""
READ_THREADS = 2
"""Threads that read pictures to encode, and batches to learn from."""
AHEAD = 4
"""Batches read ahead of the step."""


@dataclass(frozen=True)
class CachedBatch:
    """One micro-batch of frozen tensors, in host memory until it is moved.

    Attributes:
        latent: ``[B,C,h,w]`` fp32.
        features: what the language model said, by name, as the conditioner takes it; nothing where classes tell.
        positions: ``[B]`` int64.
        labels: ``[B]`` int64 class indices; None where words tell, or a picture has no class.
    """

    latent: Tensor
    features: dict[str, Tensor]
    positions: Tensor = field(metadata=ON_HOST)
    labels: Tensor | None = field(default=None, metadata=ON_HOST)


@dataclass(frozen=True)
class CacheSettings:
    """Where caches live, and how.

    Attributes:
        folder: of all of them; runs can share it, and it may be moved.
        precision: of latents on disk.
        text_precision: of text features on disk.
        is_verified: every file is read and compared with its checksum at the start.
    """

    folder: Path
    precision: StoredPrecision = "fp32"
    text_precision: StoredPrecision = "bf16"
    is_verified: bool = True


class CachedData:
    """The frozen tensors of a data set; computed on construction where they are not on disk yet.

    Args:
        dataset: finite sources, no chance in the pictures.
        latent_space: of whatever kind; its checksum names the cache.
        conditioner: with features that stay the same; None where classes tell, which need none.
        settings: where the caches live, and how.
        quarantine: where pictures that cannot be read are noted, if anywhere.

    Raises:
        UserError: the data set is endless, or its pictures or their latents change from epoch to epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        latent_space: Autoencoder,
        conditioner: PromptConditioner | None,
        settings: CacheSettings,
        quarantine: Quarantine | None = None,
    ) -> None:
        _check_fixed(dataset, latent_space)
        self.dataset, self._quarantine = dataset, quarantine
        if quarantine is not None:
            quarantine.add(dataset.left_out)
        sizes = [len(domain.source) for domain in dataset.mixture.domains]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._latents = self._fill_latents(latent_space, settings)
        self._labels: Tensor | None = None
        self._words: CachedWords | None = None
        if conditioner is None:
            self._labels = torch.tensor(array("q", map(dataset.label_of, _samples(self._latents))))
        else:
            self._words = CachedWords(dataset, self._latents, conditioner, settings)

    def batches(self, position: int, size: int) -> Iterator[CachedBatch]:
        """This process's part of micro-batches of ``size`` samples, from ``position`` on, without end; in host memory.

        Raises:
            UserError: the processes do not divide ``size``.
        """
        share = distributed.share_of(size, distributed.world(), "micro_batch_size")
        starts = count(position + distributed.rank() * share, size)
        return in_order(lambda first: self._batch(range(first, first + share)), starts, READ_THREADS, AHEAD)

    def _batch(self, positions: Sequence[int]) -> CachedBatch:
        """The tensors at the given positions of the data stream, in host memory."""
        places = [self.dataset.mixture.locate(position) for position in positions]
        rows = [int(self._offsets[place.domain]) + place.index for place in places]
        latent = self._latents.read(rows)["latent"].float()
        features = {} if self._words is None else self._words.at(rows, positions)
        return CachedBatch(latent, features, torch.tensor(list(positions)), self._labels_at(rows))

    def some_features(self, count: int) -> dict[str, Tensor]:
        """Features of ``count`` captions, evenly spread over the sorted captions (all, if fewer); none of classes."""
        return {} if self._words is None else self._words.some(count)

    def _labels_at(self, rows: Sequence[int]) -> Tensor | None:
        if self._labels is None:
            return None
        labels = self._labels[list(rows)]
        return labels if int(labels.min()) >= 0 else None

    @torch.no_grad()
    def _fill_latents(self, latent_space: Autoencoder, settings: CacheSettings) -> TensorCache:
        """This process's share of the chunks, the pictures of the next one read while this one is encoded."""
        key = {"latent_space": latent_space.checksum, **_content_of(self.dataset)}
        num_rows = int(self._offsets[-1])
        cache = TensorCache(settings.folder / "latents", key, num_rows, CHUNK_ROWS, settings.precision)
        missing = _own_share(cache, settings)
        with phase("filling the cache of latents"), cache.filling() as write:
            read = in_order(self._read_rows, missing, READ_THREADS, ahead=1)
            for rows, (images, facts) in zip(track(missing, "latents", transient=True), read, strict=True):
                image = to_float(torch.from_numpy(images).to(latent_space.device))
                latents = [_encoded(latent_space, part) for part in torch.split(image, ENCODE_BATCH)]
                write(rows, {"latent": torch.cat(latents)}, facts)
        _meet(cache, "latents", bool(missing))
        return cache

    def _read_rows(self, rows: range) -> tuple[Pixels, list[Any]]:
        """The pictures of some rows ``[rows, 3, size, size]``, and what is known of each."""
        images, facts = [], []
        for row in rows:
            number = int(np.searchsorted(self._offsets, row, side="right")) - 1
            domain, index = self.dataset.mixture.domains[number], row - int(self._offsets[number])
            if row == rows.start:
                domain.source.expect(range(index, min(index + 2 * len(rows), len(domain.source))))
            sample, skipped = read_readable(domain, index)
            if self._quarantine is not None and skipped:
                self._quarantine.add(skipped)
            images.append(self.dataset.picture_of(sample))
            # Through JSON and back, so that a fresh cache and one from the disk say the same.
            facts.append(json.loads(json.dumps([sample.key, sample.caption, dict(sample.metadata)], default=str)))
        return np.stack(images), facts


class CachedWords:
    """What the language model says to every caption of a data set, each caption once.

    Args:
        dataset: chooses among the captions of a sample.
        latents: of the same data set; the captions lie beside them.
        conditioner: with features that stay the same.
        settings: where the caches live, and how.
    """

    def __init__(
        self, dataset: Dataset, latents: TensorCache, conditioner: PromptConditioner, settings: CacheSettings
    ) -> None:
        self.dataset, self.conditioner = dataset, conditioner
        texts = sorted({text for sample in _samples(latents) for text in dataset.captions_of(sample)})
        rows = {text: row for row, text in enumerate(texts)}
        # The words themselves are not kept: for each caption of each sample, one after the other, its row.
        self._rows, self._firsts = array("q"), array("q", [0])
        for sample in _samples(latents):
            self._rows.extend(rows[text] for text in dataset.captions_of(sample))
            self._firsts.append(len(self._rows))
        self._features = _fill_features(conditioner, texts, settings)

    def at(self, samples: Sequence[int], positions: Sequence[int]) -> dict[str, Tensor]:
        """Features of the captions that the given samples have at the given positions of the data stream."""
        pairs = zip(samples, positions, strict=True)
        return self._read([self.dataset.choose_caption(self._rows_of(sample), position) for sample, position in pairs])

    def some(self, count: int) -> dict[str, Tensor]:
        """Features of ``count`` captions, evenly spread over the sorted captions (all, if fewer)."""
        total = self._features.num_rows
        return self._read([total * k // min(count, total) for k in range(min(count, total))])

    def _rows_of(self, sample: int) -> Sequence[int]:
        """Of the features of each caption of a sample."""
        return self._rows[self._firsts[sample] : self._firsts[sample + 1]]

    def _read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return self.conditioner.unpack(self._features.read(rows))


def _samples(latents: TensorCache) -> Iterator[Sample]:
    """What is known of every sample, in the order of the rows; their pictures are not read again."""
    nothing = np.zeros((0, 0, 3), np.uint8)
    for key, caption, metadata in latents.facts():
        yield Sample(nothing, caption, key, metadata)


@torch.no_grad()
def _fill_features(conditioner: PromptConditioner, texts: Sequence[str], settings: CacheSettings) -> TensorCache:
    key = {"conditioner": conditioner.cache_key(), "texts": fingerprint_of(texts)}
    precision = settings.text_precision
    cache = TensorCache(settings.folder / "features", key, len(texts), CHUNK_ROWS, precision, channel=-1)
    missing = _own_share(cache, settings)
    with phase("filling the cache of text features"), cache.filling() as write:
        for rows in track(missing, description="text features", transient=True):
            # Prompts of like length side by side: less padding to compute.
            order = sorted(rows, key=lambda row: len(texts[row]))
            parts = []
            for i in range(0, len(order), READ_BATCH):
                parts.append(conditioner.pack(conditioner.features([texts[row] for row in order[i : i + READ_BATCH]])))
                sign_of_life()
            back = torch.tensor(order).argsort()
            write(rows, {name: torch.cat([part[name].cpu() for part in parts])[back] for name in parts[0]})
    _meet(cache, "text features", bool(missing))
    return cache


def _encoded(latent_space: Autoencoder, pictures: Tensor) -> Tensor:
    """Latents ``[B,C,h,w]`` of pictures ``[B,3,H,W]``, in main memory."""
    latent = latent_space.encode(pictures).float().cpu()
    sign_of_life()
    return latent


def _content_of(dataset: Dataset) -> dict[str, Any]:
    """What the pictures depend on: how they are cut, which are of use, and the content of every source."""
    cut = dataset.config.model_dump(mode="json", include={"image_size", "crop", "background", "min_side"})
    cut["is_captioned"] = dataset.is_captioned
    return {"pictures": cut, "sources": [domain.source.fingerprint() for domain in dataset.mixture.domains]}


def _own_share(cache: TensorCache, settings: CacheSettings) -> list[range]:
    """The chunks that this process computes."""
    distributed.barrier()  # every process has looked before the first one writes
    return list(cache.missing(distributed.rank(), distributed.world(), settings.is_verified))


def _meet(cache: TensorCache, what: str, is_new: bool) -> None:
    """Wait for the shares of the other processes, and say what it came to."""
    distributed.barrier()
    cache.look_again()
    if is_new and distributed.is_main():
        size, error = cache.num_bytes / 1e6, cache.error
        _log.info("%s: %d rows, %.1f MB in %s, relative error %.2g", what, cache.num_rows, size, cache.precision, error)


def _check_fixed(dataset: Dataset, latent_space: Autoencoder) -> None:
    settings = dataset.config
    if latent_space.is_sampled:
        raise UserError(
            "cache: this latent space draws another latent each time; make it with posterior: mean, or set cache: null"
        )
    if any(domain.source.is_endless for domain in dataset.mixture.domains):
        raise UserError("cache: an endless source cannot be cached; set cache: null or prepare a finite set of shards")
    for name, value, fixed in (
        ("crop", settings.crop in CHANCE_CROPS, "centre"),
        ("mirror", settings.mirror, False),
        ("background", settings.background == "random", "white"),
    ):
        if value:
            raise UserError(
                f"data.{name}: pictures that change each epoch cannot be cached; set it to {fixed} or cache: null"
            )
