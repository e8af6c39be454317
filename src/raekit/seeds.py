"""A seed per image: which ones a call means, and the noise each stands for.

In: one seed and a number of images, or a list of seeds. Out: the seed of each image, and noise that depends on that
seed alone: not on the batch, the other images, or the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raekit.errors import UserError

LARGEST_SEED = 2**63 - 1


def image_seeds(num: int, seed: int | Sequence[int]) -> list[int]:
    """The seeds of ``num`` images: ``seed``, ``seed + 1``, ...; or the ones that are listed.

    Raises:
        UserError: no images, a seed that is no whole number in [0, 2^63), or another number of seeds than ``num``.
    """
    if num < 1:
        raise UserError(f"num: {num} images per prompt; ask for at least 1")
    first = None if isinstance(seed, Sequence) else seed
    seeds = list(seed) if isinstance(seed, Sequence) else [seed]
    if not seeds:
        raise UserError("seed: the list is empty; give one for each image")
    for one in seeds:
        if not isinstance(one, int) or not 0 <= one <= LARGEST_SEED - num:
            raise UserError(f"seed: {one!r} is out of range; give a whole number in 0..{LARGEST_SEED - num}")
    if first is not None:
        return list(range(first, first + num))
    if num not in (1, len(seeds)):
        raise UserError(f"num: {num} images per prompt for {len(seeds)} seeds; give one of them")
    return seeds


def generators_of(seeds: Sequence[int]) -> list[torch.Generator]:
    """A CPU generator for each image."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """The next standard normal noise of each image, ``[len(generators), *shape]`` on the CPU."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
