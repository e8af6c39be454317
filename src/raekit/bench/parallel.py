"""What sharing the work costs: a training step of one backbone on all processes, its memory by kind and its time.

In: a width and a depth, a way to lie on the processes (``training/parallel/placement.py``). Out:
:class:`ParallelReport` of this process. Latents are drawn, not encoded: nothing but the backbone is trained, and
nothing waits for data. Start it with ``torchrun``; a process alone is what the others are compared with.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from raekit import cost, distributed
from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond
from raekit.device import autocast, pick_precision
from raekit.training.optim import OptimConfig, Updater
from raekit.training.parallel.placement import ParallelConfig, place_modules
from raekit.training.parallel.sharding import piece
from raekit.transport.objective import FlowMatching

GIGA = 1e9


@dataclass(frozen=True)
class ParallelReport:
    """Of one process.

    Attributes:
        strategy: how weights lie.
        world: processes.
        parameters: numbers in the whole network.
        held_bytes: of tensors that live from step to step, by kind.
        peak_bytes: most memory held at once: of tensors on CUDA, of the whole process on a CPU.
        step_seconds: median of a step, by the clock.
        busy_seconds: of it, processor time of this process, all threads: what a step costs where others share the
            processor, and waiting for the other processes does not count.
        images: of a step on this process.
    """

    strategy: str
    world: int
    parameters: int
    held_bytes: dict[str, int]
    peak_bytes: int
    step_seconds: float
    busy_seconds: float
    images: int

    def rows(self) -> list[tuple[str, str]]:
        """For a terminal."""
        held = ", ".join(f"{name} {size / GIGA:.2f}" for name, size in self.held_bytes.items())
        return [
            ("weights", f"{self.parameters / 1e6:.0f} M, {self.strategy} on {self.world} processes"),
            ("held, GB a process", f"{held} = {sum(self.held_bytes.values()) / GIGA:.2f}"),
            ("peak, GB a process", f"{self.peak_bytes / GIGA:.2f}"),
            (
                "step",
                f"{self.step_seconds:.2f} s by the clock, {self.busy_seconds:.2f} s of processor, {self.images} images",
            ),
        ]


def bench_parallel(
    width: int, depth: int, config: ParallelConfig, device: torch.device, images: int = 1, repeats: int = 3
) -> ParallelReport:
    """Time steps of a DiT on 4 x 4 tokens and weigh what it leaves in memory; every process calls it.

    Args:
        width: of its tokens, a multiple of 64.
        depth: blocks.
        config: how it lies on the processes.
        device: of this process.
        images: of a step on each process.
        repeats: timed steps; one more comes first.
    """
    torch.manual_seed(0)
    settings = DiT.Config(size="nano", width=width, depth=depth, heads=width // 64)
    backbone, transport = DiT(settings, (16, 4, 4), width).to(device), FlowMatching(FlowMatching.Config(), 256)
    parameters = sum(p.numel() for p in backbone.parameters())
    is_bf16 = pick_precision("auto", device) == "bf16"
    placement = place_modules({"backbone": backbone}, config, device, is_bf16)
    updater = Updater(dict(backbone.named_parameters()), OptimConfig(), repeats + 1)
    reducer = placement.reducer(updater.parameters.values())
    latent, eps = torch.randn(2, images, 16, 4, 4, device=device)
    t, cond = torch.rand(images, device=device), Cond(vector=torch.randn(images, width, device=device))

    def step() -> None:
        updater.zero_grad()
        with placement.turn(reducer):
            for _ in placement.accumulate([None]):
                with autocast("auto", device):
                    loss = transport.loss(backbone, latent, cond, t, eps).mean()
                loss.backward()  # type: ignore[no-untyped-call]
        updater.clip()
        updater.update(0)

    step()
    cost.forget_peak(device)
    laps = [_lap(step, device) for _ in range(repeats)]
    clock, busy = (statistics.median(times) for times in zip(*laps, strict=True))
    held = {
        "weights": _bytes(updater.parameters.values()),
        "gradients": _bytes(p.grad for p in updater.parameters.values() if p.grad is not None),
        "moments": _bytes(updater.state().values()),
        "averages": _bytes(updater.ema.values.values()),
    }
    peak = cost.peak_bytes(device)
    return ParallelReport(placement.layout.strategy, distributed.world(), parameters, held, peak, clock, busy, images)


def _lap(step: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds of a step by the clock and of the processor; all processes start it together."""
    cost.wait(device)
    distributed.barrier()
    clock, busy = time.perf_counter(), time.process_time()
    step()
    cost.wait(device)
    return time.perf_counter() - clock, time.process_time() - busy


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Held by this process."""
    return sum(piece(tensor.detach()).nbytes for tensor in tensors)
