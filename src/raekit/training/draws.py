"""Random numbers that belong to a sample, not to a batch.

In: the recipe's seed and the global position of each sample in the data stream. Out: uniforms and normals that are the
same however the batch is cut: k micro-batches of b equal one of kb, two ranks equal one, and a resumed run equals an
unbroken one, because nothing depends on how many numbers were drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A 63-bit seed from several integers (SplitMix64 finaliser, chained); neighbours give unrelated seeds."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


class Draws:
    """The random numbers of one (micro-)batch.

    Args:
        seed: the recipe's seed.
        positions: global position of each of the ``B`` samples.
        device: where the draws are made and stay.
    """

    def __init__(self, seed: int, positions: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> None:
        values = positions.tolist() if isinstance(positions, Tensor) else positions
        self.device = torch.device(device)
        self._seeds = [mix(seed, int(position)) for position in values]

    def uniform(self, purpose: int) -> Tensor:
        """``[B]`` in [0, 1); ``purpose`` tells apart the uses of one sample (time, dropout, ...)."""
        return torch.stack([torch.rand((), generator=g, device=self.device) for g in self._generators(purpose)])

    def uniforms(self, purpose: int, count: int) -> Tensor:
        """``[B, count]`` in [0, 1)."""
        return torch.stack([torch.rand(count, generator=g, device=self.device) for g in self._generators(purpose)])

    def normal(self, purpose: int, shape: Sequence[int] = ()) -> Tensor:
        """``[B, *shape]`` standard normal, fp32."""
        size = tuple(shape)
        return torch.stack([torch.randn(size, generator=g, device=self.device) for g in self._generators(purpose)])

    def _generators(self, purpose: int) -> list[torch.Generator]:
        return [torch.Generator(self.device).manual_seed(mix(seed, purpose)) for seed in self._seeds]
