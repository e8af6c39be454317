"""What a machine can do for a run, measured in a second or two: pictures read, processes that talk.

In: nothing, or a number of pictures. Out: pictures a second of the real loader, and whether a collective of each kind
works here. ``raekit doctor`` prints them beside the matmul speed of :mod:`raekit.cost`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.loader import Loader

NUM_PICTURES, PICTURE_SIZE, IMAGE_SIZE = 48, 512, 256
"""JPEGs of 512 px a side, as in common sets of captioned pictures, read at 256 px."""


def loader_speed(threads: int, num_pictures: int = NUM_PICTURES) -> float:
    """Pictures a second from JPEG files on this disk (and in its cache) to batches, with so many reading threads."""
    with tempfile.TemporaryDirectory() as folder:
        _draw(Path(folder), num_pictures)
        config = {"image_size": IMAGE_SIZE, "mixture": [{"name": "folder", "path": folder}]}
        dataset = build_dataset(DataConfig.model_validate(config))
        loader = Loader(dataset, 8, stop=num_pictures, settings=Loader.Config(threads=threads))
        start = perf_counter()
        count = sum(len(batch) for batch in loader)
        return count / (perf_counter() - start)


def collective_works(backend: str) -> bool:
    """Whether a group of this one process sums a tensor.

    Args:
        backend: ``gloo`` or ``nccl``.
    """
    if not dist.is_available() or not dist.is_backend_available(backend) or dist.is_initialized():
        return False
    if backend == "nccl" and not torch.cuda.is_available():
        return False
    device = torch.device("cuda", 0) if backend == "nccl" else torch.device("cpu")
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        value = torch.ones(2, device=device)
        dist.all_reduce(value)
        return bool((value == 1).all())
    finally:
        dist.destroy_process_group()


def _draw(folder: Path, num_pictures: int) -> None:
    """Pictures with edges and gradients, about as large on disk as photographs."""
    numbers = np.random.default_rng(0)
    for index in range(num_pictures):
        coarse = Image.fromarray(numbers.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        coarse.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
