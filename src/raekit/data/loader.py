"""Batches of pictures with their captions, read ahead, in order.

In: a :class:`~raekit.data.dataset.Dataset`, a global batch size, this process's rank. Out: :class:`Batch`. Which
positions are whose, and what the state is, says :mod:`raekit.data.position_loader`.

Pictures are decoded ahead by threads (Pillow lets go of Python's lock while it decodes and scales); batches come out
in order whatever the threads do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from raekit import config
from raekit.data.dataset import DataConfig, Dataset, Item, build_dataset
from raekit.data.position_loader import PositionLoader
from raekit.data.quarantine import Skipped
from raekit.device import ON_HOST

__all__ = ["Batch", "DataConfig", "Loader", "build_dataset", "collate"]


@dataclass(frozen=True)
class Batch:
    """This rank's part of one global batch.

    Attributes:
        image: uint8 ``[B, 3, H, W]``.
        captions: ``B`` strings.
        positions: int64 ``[B]``, the global position of each sample; per-sample chance is seeded from it.
        keys: ``B`` names, each unique within its domain.
        domains: ``B`` names of sources.
        labels: int64 ``[B]`` class indices, or none where a sample has no class.
        skipped: each sample that was replaced in this batch, and why it could not be used.
    """

    image: Tensor
    captions: list[str]
    positions: Tensor = field(metadata=ON_HOST)
    keys: list[str]
    domains: list[str]
    labels: Tensor | None = field(metadata=ON_HOST)
    skipped: tuple[Skipped, ...] = ()

    @property
    def num_skipped(self) -> int:
        """Unusable samples that were replaced in this batch."""
        return len(self.skipped)

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device | str) -> Batch:
        """A copy with its tensors on ``device``; still uint8."""
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        image, positions = self.image.to(device, non_blocking=True), self.positions.to(device, non_blocking=True)
        return replace(self, image=image, positions=positions, labels=labels)

    def pinned(self) -> Batch:
        """A copy with its tensors in page-locked memory, from which a GPU fetches while it computes."""
        labels = None if self.labels is None else self.labels.pin_memory()
        return replace(self, image=self.image.pin_memory(), positions=self.positions.pin_memory(), labels=labels)


class Loader(PositionLoader[Batch]):
    """An iterator of batches; see the module's docstring.

    Args:
        dataset: what lies at each position.
        batch_size: of the global batch.
        rank: of this process.
        world: number of processes; must divide ``batch_size``.
        seed: of orders, crops, backgrounds and captions; the dataset's own by default.
        start_position: first position.
        stop: position to stop at, with a last batch that may be smaller; endless by default.
        settings: threads and read-ahead.
    """

    class Config(config.Config):
        """How hard to read ahead; changes speed and memory, never a result."""

        threads: int = Field(2, ge=0)
        """Reading threads; 0 reads in the calling thread."""
        prefetch: int = Field(4, ge=1)
        """Batches read ahead."""
        pin_memory: bool = False
        """Put batches in page-locked memory as they are read; for training on a CUDA device, and only there."""

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        start_position: int = 0,
        stop: int | None = None,
        settings: Config | None = None,
    ) -> None:
        self.settings = settings or Loader.Config()
        super().__init__(batch_size, rank, world, start_position, stop, self.settings.threads, self.settings.prefetch)
        self.dataset = dataset if seed is None else dataset.with_seed(seed)

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each domain before the position, over all ranks and from the first: exact after a resume."""
        return self.dataset.mixture.counts(self.position)

    def state_dict(self) -> dict[str, int]:
        """Where to go on: the next position, exact in the middle of an epoch."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from :meth:`state_dict`; takes effect at the next ``iter``."""
        self.position = int(state["position"])

    def read(self, positions: range) -> Batch:
        items = [self.dataset[position] for position in positions]
        batch = collate(items, list(positions), self.dataset.config.image_size)
        return batch.pinned() if self.settings.pin_memory else batch

    def skipped_in(self, batch: Batch) -> Sequence[Skipped]:
        return batch.skipped


def collate(items: list[Item], positions: list[int], size: int) -> Batch:
    """Items as one batch; an empty list gives an empty batch of pictures of ``size``."""
    images = np.stack([item.image for item in items]) if items else np.zeros((0, 3, size, size), np.uint8)
    labels = [item.label for item in items]
    return Batch(
        image=torch.from_numpy(images),
        captions=[item.caption for item in items],
        positions=torch.tensor(positions, dtype=torch.int64),
        keys=[item.key for item in items],
        domains=[item.domain for item in items],
        labels=torch.tensor(labels) if labels and min(labels) >= 0 else None,
        skipped=tuple(reason for item in items for reason in item.skipped),
    )
