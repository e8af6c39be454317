"""Sharded weights as plain arithmetic sees them: this process's piece, the norm over all pieces, the whole.

In: tensors that may be sharded (DTensor, as FSDP2 leaves weights, gradients and moments) or plain. Out: plain tensors.
What acts number by number (averages, clipping) works on pieces; what does not says so and gathers. Sharded tensors of a
run are all cut in the same way, along their first dimension, over the same processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from raekit import distributed


def piece(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of a plain one; it shares memory with it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from the pieces of all processes, all of which must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, the same on every process, cut as ``model`` is; nothing is sent."""
    if not isinstance(model, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm over all numbers of all tensors, whole or sharded, the same on every process."""
    sharded = [tensor for tensor in tensors if isinstance(tensor, DTensor)]
    plain = [tensor for tensor in tensors if not isinstance(tensor, DTensor)]
    if not sharded:
        return nn.utils.get_total_norm(plain)
    squares = nn.utils.get_total_norm([tensor.to_local() for tensor in sharded]).square()
    mesh = sharded[0].device_mesh
    dist.all_reduce(squares, group=mesh.get_group(mesh.ndim - 1))  # the last dimension of the mesh is that of the cut
    return (squares + nn.utils.get_total_norm(plain).square()).sqrt() if plain else squares.sqrt()


@contextmanager
def gathered(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The first process's modules hold whole, plain weights in main memory meanwhile, one tensor gathered at a time.

    All processes must enter and leave together. No module may be run inside; this is for writing them to disk.
    """
    kept: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in dict.fromkeys(part for root in modules for part in root.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not isinstance(parameter, DTensor):
                continue
            full = whole(parameter.detach())
            if distributed.is_main():
                kept.append((module, name, parameter))
                module._parameters[name] = nn.Parameter(full.cpu(), parameter.requires_grad)
            del full
    try:
        yield
    finally:
        for module, name, parameter in kept:
            module._parameters[name] = parameter
        distributed.barrier()


@torch.no_grad()
def fill(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values, whole or cut alike, into tensors of the same names, in place."""
    for name, target in targets.items():
        piece(target).copy_(piece(cut_like(values[name].to(target.device), target)))
