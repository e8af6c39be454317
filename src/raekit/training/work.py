"""How much work a network is: weights, operations and bytes, found without memory and without a device.

In: a way to build the network with any number of blocks, and to call it. Out: :class:`Work` on one image. Two shallow
copies are counted by torch's own operation counter, and by what autograd keeps of them; since all blocks are alike,
the rest is a straight line. Nothing is computed: the tensors are fakes that only know their shape and type.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

FP32, BF16 = 4, 2
"""Bytes of a number."""

Call = Callable[[Any, int], Tensor]
"""A forward pass of a network on a batch of so many images."""


@dataclass(frozen=True)
class Work:
    """Of a network, on one image; numbers of multiplications and additions, so a multiply-add counts twice.

    Attributes:
        parameters: numbers in its weights.
        forward: operations of a forward pass.
        training: operations of a forward and a backward pass, to whatever requires a gradient.
        activations: bytes kept from the forward for the backward pass; 0 where nothing requires a gradient.
        checkpointed: the same when blocks keep their inputs only and are run again (``train.checkpoint_activations``).
    """

    parameters: int
    forward: int = 0
    training: int = 0
    activations: int = 0
    checkpointed: int = 0

    def at_rest(self) -> Work:
        """Of a network that lies in memory and is not run."""
        return Work(self.parameters)


@dataclass(frozen=True)
class Part:
    """A network at work in a training step.

    Attributes:
        name: as printed.
        work: on one image.
        optim: its optimiser; None = it is frozen.
        is_averaged: a moving average of it is kept.
        weight_bytes: of a weight as it is held.
    """

    name: str
    work: Work
    optim: str | None = None
    is_averaged: bool = True
    weight_bytes: int = FP32

    def operations(self, is_checkpointed: bool = False) -> int:
        """On one image at every step; blocks that are run again cost another forward pass."""
        has_backward = self.work.training > self.work.forward
        return self.work.training + (self.work.forward if is_checkpointed and has_backward else 0)


def work_of(build: Callable[[int], nn.Module], depth: int, call: Call, is_bf16: bool, stream: int = 0) -> Work:
    """The work of a network of ``depth`` equal blocks.

    Args:
        build: the network with so many blocks, on the meta device.
        depth: of the real one.
        call: its forward pass, on inputs of its own making; on frozen weights none of whose inputs require a gradient
            either, there is no backward pass.
        is_bf16: matrix products are bf16, which halves most of what is kept.
        stream: numbers in what enters a block, of one image; they are fp32.
    """
    first, second = (measure(build(number), call, is_bf16) for number in (1, 2))
    pairs = zip(astuple(first), astuple(second), strict=True)
    work = Work(*(one + (depth - 1) * (two - one) for one, two in pairs))
    # One block at a time, and whatever is no block of the trunk, is kept in full.
    return replace(work, checkpointed=first.activations + depth * stream * FP32 if work.activations else 0)


def measure(module: nn.Module, call: Call, is_bf16: bool) -> Work:
    """The work of one network as it is; arguments as for :func:`work_of`."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    module = copy.deepcopy(module)
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = module.to_empty(device="cpu")
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output = call(module, 1)
            forward = int(counter.get_total_flops())
            if not output.requires_grad:
                return Work(parameters, forward, forward)
            output.sum().backward()  # type: ignore[no-untyped-call]
            training = int(counter.get_total_flops())
        # Copies of weights in bf16, and tables, are kept once: the difference of two batches leaves them out.
        one, two = (_kept(module, lambda size=size: call(module, size), is_bf16) for size in (1, 2))  # type: ignore[misc]
    return Work(parameters, forward, training, two - one, two - one)


def _kept(module: nn.Module, call: Callable[[], Tensor], is_bf16: bool) -> int:
    """Bytes of the tensors that autograd keeps in a forward pass, weights left out."""
    weights = {p.untyped_storage()._cdata for p in (*module.parameters(), *module.buffers())}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in weights:
            # The tensor stays alive with its entry, so that no other takes its place in memory.
            kept[key] = storage.nbytes(), tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        call()
    return sum(size for size, _ in kept.values())
