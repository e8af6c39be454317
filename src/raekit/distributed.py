"""Several processes that work as one: who they are, and how their numbers meet.

In: what ``torchrun`` says of this process. Out: averages over all processes. Every function is the identity in a single
process, so callers never ask how many there are. What is done to modules is in ``training/parallel/placement.py``.

Who waits for another that honestly works for an hour (writes a large file, draws, fills a cache) waits between the
hosts, which lasts; between accelerators NCCL ends a process that has waited ten minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from raekit.errors import UserError
from raekit.liveness import bounded_elsewhere

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""What torchrun sets; they say which process this is and never change a result."""
PATIENCE = timedelta(days=1)
"""How long hosts wait for one another. One that has died is noticed at once: its connections break."""

T = TypeVar("T")

_hosts: dist.ProcessGroup | None = None


def join(device: torch.device, option: str = "train.device") -> torch.device:
    """Join the process group that ``torchrun`` announces, if any, and return this process's device.

    A GPU becomes the current one, which torch means wherever no other is named: checkpoints and generators do not.

    Args:
        device: that was asked for.
        option: what the user calls it, for the sentence.

    Raises:
        UserError: an explicit device index beside several processes.
    """
    is_joining = all(name in os.environ for name in LAUNCHER_VARIABLES) and not dist.is_initialized()
    if is_joining and device.type == "cuda":
        if device.index is not None and int(os.environ["WORLD_SIZE"]) > 1:
            raise UserError(f"{option}: {device} beside several processes; write cuda, each takes its own")
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device.index is None else device
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if not is_joining:
        return device
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    global _hosts
    _hosts = circle()
    return device


def leave() -> None:
    """Leave the process group, if one was joined."""
    global _hosts
    _hosts = None
    if dist.is_initialized():
        dist.destroy_process_group()


def circle() -> dist.ProcessGroup:
    """All processes as hosts, which talk beside their accelerators and wait patiently; all must call it together."""
    with bounded_elsewhere():
        group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=PATIENCE)
    return group


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def announced_rank() -> int:
    """Number of this process, also before it has joined the others."""
    return rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files."""
    return rank() == 0


def share_of(size: int, world: int, field: str) -> int:
    """Samples of a batch that fall to each process.

    Args:
        size: samples of the whole batch.
        world: number of processes.
        field: that a recipe or a caller sets the size with, for the sentence.

    Raises:
        UserError: there are none, or they cannot be dealt out evenly.
    """
    if size < 1 or size % world:
        raise UserError(
            f"{field}: {size} samples cannot be shared evenly by {world} processes; make it a positive multiple of "
            f"{world}"
        )
    return size // world


def barrier() -> None:
    """Wait until every process is here, however long that takes."""
    if dist.is_initialized():
        with bounded_elsewhere():
            dist.barrier(group=_hosts)


def gathered(value: T) -> list[T]:
    """Everybody's value, a plain one, by rank, on every process."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    with bounded_elsewhere():
        dist.all_gather_object(values, value, group=_hosts)
    return values


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in place; all processes must pass them in one order."""
    if world() == 1:
        return
    for kind in _by_kind(tensors):
        flat = torch.cat([t.reshape(-1) for t in kind])
        dist.all_reduce(flat)
        flat /= world()
        for tensor, part in zip(kind, torch.split(flat, [t.numel() for t in kind]), strict=True):
            tensor.copy_(part.view_as(tensor))


def all_rows(tensor: Tensor) -> Tensor:
    """Everybody's rows, ``[B, ...]`` of each as ``[world * B, ...]`` by rank, on every process; no gradient passes."""
    if world() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def _by_kind(tensors: Iterable[Tensor]) -> Sequence[list[Tensor]]:
    """Tensors of one dtype and device together, so that each kind travels as one message."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(kinds.values())
