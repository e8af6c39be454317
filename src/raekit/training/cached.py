"""Latents and text features computed once, then read for every step.

In: a finite data set whose pictures are the same each time, a latent space, a conditioner with fixed features. Out:
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

from raekit import distributed
from raekit.autoencoder.base import Autoencoder
from raekit.conditioning.prompt import PromptConditioner
from raekit.data.cache import TensorCache
from raekit.data.dataset import Dataset, read_readable
from raekit.data.transforms import CHANCE_CROPS, to_float
from raekit.errors import UserError

CHUNK_ROWS = 256
ENCODE_BATCH = 64
"""Pictures encoded at once."""
READ_BATCH = 64
"""Captions read at once."""


@dataclass(frozen=True)
class CachedBatch:
    """One micro-batch of frozen tensors.

    Attributes:
        latent: ``[B,C,h,w]`` fp32.
        features: what the language model said, by name, as the conditioner takes it.
        positions: ``[B]`` int64.
    """

    latent: Tensor
    features: dict[str, Tensor]
    positions: Tensor


class CachedData:
    """The frozen tensors of a data set; computed on construction where they are not on disk yet.

    Args:
        dataset: finite sources, no chance in the pictures.
        latent_space: of whatever kind; its checksum names the cache.
        conditioner: with features that stay the same.
        folder: where the caches live; they can be shared between runs.

    Raises:
        UserError: the data set is endless, or its pictures or their latents change from epoch to epoch.
    """

    def __init__(
        self, dataset: Dataset, latent_space: Autoencoder, conditioner: PromptConditioner, folder: Path
    ) -> None:
        _check_fixed(dataset, latent_space)
        self.dataset, self.conditioner = dataset, conditioner
        sizes = [len(domain.source) for domain in dataset.mixture.domains]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._captions = [
            dataset.captions_of(read_readable(domain, index)[0])
            for domain in dataset.mixture.domains
            for index in range(len(domain.source))
        ]
        texts = sorted({text for captions in self._captions for text in captions})
        self._text_rows = {text: row for row, text in enumerate(texts)}
        self._latents = self._fill_latents(latent_space, folder)
        self._features = _fill_features(conditioner, texts, folder)

    def batches(self, position: int, size: int, device: torch.device) -> Iterator[CachedBatch]:
        """This process's part of micro-batches of ``size`` samples, from ``position`` on, without end.

        Raises:
            UserError: the processes do not divide ``size``.
        """
        world = distributed.world()
        if size % world:
            raise UserError(f"micro_batch_size: {size} cannot be shared by {world} processes; make it a multiple")
        share = size // world
        first = position + distributed.rank() * share
        while True:
            yield self.batch(range(first, first + share), device)
            first += size

    def batch(self, positions: Sequence[int], device: torch.device) -> CachedBatch:
        """The tensors at the given positions of the data stream."""
        rows, texts = [], []
        for position in positions:
            place = self.dataset.mixture.locate(position)
            row = int(self._offsets[place.domain]) + place.index
            rows.append(row)
            texts.append(self._text_rows[self.dataset.choose_caption(self._captions[row], position)])
        latent = self._latents.read(rows)["latent"].to(device)
        features = {name: value.to(device) for name, value in self._read_features(texts).items()}
        return CachedBatch(latent, features, torch.tensor(list(positions)))

    def some_features(self, count: int) -> dict[str, Tensor]:
        """Features of ``count`` captions, evenly spread over the sorted captions (all, if fewer)."""
        total = self._features.num_rows
        return self._read_features([total * k // min(count, total) for k in range(min(count, total))])

    def _read_features(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return self.conditioner.unpack(self._features.read(rows))

    @torch.no_grad()
    def _fill_latents(self, latent_space: Autoencoder, folder: Path) -> TensorCache:
        key = {"latent_space": latent_space.checksum, "data": self.dataset.config.model_dump(mode="json")}
        cache = TensorCache(folder / "latents", key, int(self._offsets[-1]), CHUNK_ROWS)
        for rows in track(list(cache.missing()), description="latents", transient=True):
            images = np.stack([self._picture(row) for row in rows])
            image = to_float(torch.from_numpy(images).to(latent_space.device))
            latents = [latent_space.encode(part).float().cpu() for part in torch.split(image, ENCODE_BATCH)]
            cache.write(rows, {"latent": torch.cat(latents)})
        return cache

    def _picture(self, row: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        number = int(np.searchsorted(self._offsets, row, side="right")) - 1
        domain = self.dataset.mixture.domains[number]
        return self.dataset.picture_of(read_readable(domain, row - int(self._offsets[number]))[0])


@torch.no_grad()
def _fill_features(conditioner: PromptConditioner, texts: Sequence[str], folder: Path) -> TensorCache:
    key = {"conditioner": conditioner.cache_key(), "texts": list(texts)}
    cache = TensorCache(folder / "features", key, len(texts), CHUNK_ROWS)
    for rows in track(list(cache.missing()), description="text features", transient=True):
        # Prompts of like length side by side: less padding to compute.
        order = sorted(rows, key=lambda row: len(texts[row]))
        parts = [
            conditioner.pack(conditioner.features([texts[row] for row in order[i : i + READ_BATCH]]))
            for i in range(0, len(order), READ_BATCH)
        ]
        back = torch.tensor(order).argsort()
        cache.write(rows, {name: _stored(torch.cat([part[name].cpu() for part in parts])[back]) for name in parts[0]})
    return cache


def _stored(value: Tensor) -> Tensor:
    """States in bf16, whose rounding is far below what tells two prompts apart; masks as they are."""
    return value.to(torch.bfloat16) if value.is_floating_point() else value


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
