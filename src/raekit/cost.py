"""What a computation costs: operations counted, seconds measured, memory held.

In: something to call, and a device. Out: plain numbers. A device's queue is drained before the clock is read, so that
what was asked for is what was done. A multiplication and an addition count as two operations, as vendors and papers on
speed count (papers on models often count the pair as one: half of these numbers).
"""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrices multiplied: large enough to reach full speed, small enough for one CPU core."""
MATMULS_QUEUED = {"cpu": 1, "cuda": 20}
"""Products asked of a device before it is waited for: a GPU that is waited for after each stands still in between."""
MATMUL_SECONDS = 0.5
"""How long matmuls are repeated."""


def wait(device: torch.device) -> None:
    """Until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_flops(call: Callable[[], object], device: torch.device) -> int:
    """Operations of the matrix products, convolutions and attentions in one call on a device, backward passes included;
    element-wise work is left out, and so is what other threads are asked for."""
    # The CPU's fused attention is unknown to the counter; the plain one is two matrix products that it knows. CUDA's
    # are known, and the plain one would keep matrices there that the call itself never makes.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with attention, FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def seconds_of(function: Callable[[], object], device: torch.device, repeats: int, warmup: int = 1) -> float:
    """Median time of a call, after ``warmup`` calls that do not count."""
    times = []
    for number in range(warmup + repeats):
        wait(device)
        start = perf_counter()
        function()
        wait(device)
        if number >= warmup:
            times.append(perf_counter() - start)
    return statistics.median(times)


class Stopwatch:
    """Images per second of one kind of work, its first batch left out as warm-up where there are more.

    Args:
        device: waited for before the clock is read.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._laps: list[tuple[int, float]] = []

    @contextmanager
    def lap(self, num_images: int) -> Iterator[None]:
        """Time the block as work on ``num_images`` images."""
        wait(self._device)
        start = perf_counter()
        yield
        wait(self._device)
        self._laps.append((num_images, perf_counter() - start))

    @property
    def images_per_second(self) -> float:
        """Over all laps but the first, or over the only one; 0 before any."""
        laps = self._laps[1:] or self._laps
        seconds = sum(lap[1] for lap in laps)
        return sum(lap[0] for lap in laps) / seconds if seconds else 0.0


def matmul_tflops(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Measured speed of ``[size, size] @ [size, size]``, in 10^12 operations a second (2 size^3 a product).

    Args:
        device: what multiplies.
        dtype: of the matrices.
        size: their rows; None = :data:`MATMUL_SIZE` of the device.
    """
    size = size or MATMUL_SIZE.get(device.type, MATMUL_SIZE["cpu"])
    queued = MATMULS_QUEUED.get(device.type, 1)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(left, right)
    wait(device)
    start, products = perf_counter(), 0
    while perf_counter() - start < MATMUL_SECONDS:
        for _ in range(queued):
            torch.mm(left, right)
        wait(device)
        products += queued
    return 2 * size**3 * products / (perf_counter() - start) / 1e12


def forget_peak(device: torch.device) -> None:
    """Start counting peak memory anew, where the device can (CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Most memory held at once: of tensors on CUDA since :func:`forget_peak`, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
