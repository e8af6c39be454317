"""Latents and text features computed once, then read for every step.

In: a finite data set whose pictures are the same each time, a latent space, and a conditioner with fixed features. Out:
:class:`CachedBatch` at any position of the same data stream. The encoder and the language model are frozen, so for a
data set of modest size almost all of a small generator's training time would go into computing the same numbers again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from raekit.autoencoder.rae import RAE
from raekit.conditioning.query import QueryConditioner
from raekit.data.cache import TensorCache
from raekit.data.dataset import Dataset
from raekit.data.transforms import to_float
from raekit.errors import UserError

CHUNK_ROWS = 256


@dataclass(frozen=True)
class CachedBatch:
    """One micro-batch of frozen tensors.

    Attributes:
        latent: ``[B,C,h,w]`` fp32.
        features: ``[B,N,H]``, the language model's states at the queries.
        positions: ``[B]`` int64.
    """

    latent: Tensor
    features: Tensor
    positions: Tensor


class CachedData:
    """The frozen tensors of a data set; computed on construction where they are not on disk yet.

    Args:
        dataset: finite sources, no chance in the pictures.
        rae: the latent space; its checksum names the cache.
        conditioner: fixed queries and a frozen language model.
        folder: where the caches live; they can be shared between runs.

    Raises:
        UserError: the data set is endless, or its pictures change from epoch to epoch.
    """

    def __init__(self, dataset: Dataset, rae: RAE, conditioner: QueryConditioner, folder: Path) -> None:
        _check_fixed(dataset)
        self.dataset = dataset
        sizes = [len(domain.source) for domain in dataset.mixture.domains]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._captions = [
            dataset.captions_of(domain.source[index])
            for domain in dataset.mixture.domains
            for index in range(len(domain.source))
        ]
        texts = sorted({text for captions in self._captions for text in captions})
        self._text_rows = {text: row for row, text in enumerate(texts)}
        self._latents = self._fill_latents(rae, folder)
        self._features = _fill_features(conditioner, texts, folder)

    def batches(self, position: int, size: int, device: torch.device) -> Iterator[CachedBatch]:
        """Micro-batches from ``position`` on, without end."""
        while True:
            yield self.batch(range(position, position + size), device)
            position += size

    def batch(self, positions: Sequence[int], device: torch.device) -> CachedBatch:
        """The tensors at the given positions of the data stream."""
        rows, texts = [], []
        for position in positions:
            place = self.dataset.mixture.locate(position)
            row = int(self._offsets[place.domain]) + place.index
            rows.append(row)
            texts.append(self._text_rows[self.dataset.choose_caption(self._captions[row], position)])
        latent = self._latents.read(rows)["latent"].to(device)
        features = self._features.read(texts)["features"].to(device)
        return CachedBatch(latent, features, torch.tensor(list(positions)))

    def some_features(self, count: int) -> Tensor:
        """Text features ``[M,N,H]`` of ``count`` captions, evenly spread over the sorted captions (all, if fewer)."""
        total = self._features.num_rows
        rows = [total * k // min(count, total) for k in range(min(count, total))]
        return self._features.read(rows)["features"]

    @torch.no_grad()
    def _fill_latents(self, rae: RAE, folder: Path) -> TensorCache:
        key = {"latent_space": rae.checksum, "data": self.dataset.config.model_dump(mode="json")}
        cache = TensorCache(folder / "latents", key, int(self._offsets[-1]), CHUNK_ROWS)
        device = rae.statistics.mean.device
        for rows in track(list(cache.missing()), description="latents", transient=True):
            images = np.stack([self._picture(row) for row in rows])
            cache.write(rows, {"latent": rae.encode(to_float(torch.from_numpy(images).to(device))).float()})
        return cache

    def _picture(self, row: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        domain = int(np.searchsorted(self._offsets, row, side="right")) - 1
        return self.dataset.picture_of(self.dataset.mixture.domains[domain].source[row - int(self._offsets[domain])])


@torch.no_grad()
def _fill_features(conditioner: QueryConditioner, texts: Sequence[str], folder: Path) -> TensorCache:
    key = {"conditioner": conditioner.cache_key(), "texts": list(texts)}
    cache = TensorCache(folder / "features", key, len(texts), CHUNK_ROWS)
    for rows in track(list(cache.missing()), description="text features", transient=True):
        # prompts of like length side by side: less padding to compute
        order = sorted(rows, key=lambda row: len(texts[row]))
        parts = [conditioner.features([texts[r] for r in order[i : i + 64]]).cpu() for i in range(0, len(order), 64)]
        features = torch.cat(parts)[torch.tensor(order).argsort()]
        cache.write(rows, {"features": features.to(torch.bfloat16)})
    return cache


def _check_fixed(dataset: Dataset) -> None:
    settings = dataset.config
    if any(domain.source.is_endless for domain in dataset.mixture.domains):
        raise UserError("cache: an endless source cannot be cached; set cache: null or prepare a finite set of shards")
    for name, value, fixed in (
        ("crop", settings.crop == "random", "centre"),
        ("mirror", settings.mirror, False),
        ("background", settings.background == "random", "white"),
    ):
        if value:
            raise UserError(
                f"data.{name}: pictures that change each epoch cannot be cached; set it to {fixed} or cache: null"
            )
