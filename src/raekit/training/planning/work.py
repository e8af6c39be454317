"""How much work a network is: weights, operations and bytes, found without memory and without a device.

In: a way to build the network with any number of blocks, and to call it. Out: :class:`Work` on one image. Two shallow
copies are counted by torch's own operation counter, and by what autograd keeps of them; since all blocks are alike,
the rest is a straight line. Nothing is computed: the tensors are fakes that only know their shape and type.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

FP32, BF16 = 4, 2
"""Bytes of a number."""

Rows = list[tuple[str, str]]
"""What ``raekit explain`` prints: names, and what was found out."""

Call = Callable[[Any, int], Tensor]
"""A forward pass of a network on a batch of so many images."""

Checkpointing = Literal["none", "selective", "full"]
"""Which blocks keep nothing but their input, and are run again on the way back: none, every second one, all."""
RUN_AGAIN: dict[Checkpointing, float] = {"none": 0.0, "selective": 0.5, "full": 1.0}
"""Share of the blocks."""


@dataclass(frozen=True)
class Work:
    """Of a network, on one image; numbers of multiplications and additions, so a multiply-add counts twice.

    Attributes:
        parameters: numbers in its weights.
        forward: operations of a forward pass.
        training: operations of a forward and a backward pass, to whatever requires a gradient.
        activations: bytes kept from the forward for the backward pass; 0 where nothing requires a gradient.
        checkpointed: the same when blocks keep their inputs only and are run again on the way back.
        again: bytes of a block that is being run again; one at a time.
        block: of its numbers, those in the largest piece that sharded training gathers at a time (``pieces.py``).
        ends: those that stay whole on every process even so.
        learning: those that require a gradient; fewer than all where adapters learn beside frozen weights.
    """

    parameters: int
    forward: int = 0
    training: int = 0
    activations: int = 0
    checkpointed: int = 0
    block: int = 0
    ends: int = 0
    learning: int = 0
    again: int = 0

    def kept(self, checkpointing: Checkpointing) -> int:
        """Bytes kept until the backward pass, where a share of the blocks keeps its inputs only."""
        share = RUN_AGAIN[checkpointing]
        return round((1 - share) * self.activations + share * self.checkpointed)

    def at(self, times: int) -> Work:
        """Of a network that sees each image at so many times in a step."""
        if times == 1:
            return self
        names = ("forward", "training", "activations", "checkpointed", "again")
        return replace(self, **{name: times * getattr(self, name) for name in names})

    def at_rest(self) -> Work:
        """Of a network that lies in memory and is not run."""
        return Work(self.parameters, block=self.block, ends=self.ends)


@dataclass(frozen=True)
class Part:
    """A network at work in a training step.

    Attributes:
        name: as printed.
        work: on one image.
        optim: its optimiser; None = it is frozen.
        is_averaged: a moving average of it is kept.
        weight_bytes: of a weight as it is held.
        extra_forwards: passes a step beside the one that learns, without a gradient (for a discriminator, say).
    """

    name: str
    work: Work
    optim: str | None = None
    is_averaged: bool = True
    weight_bytes: int = FP32
    extra_forwards: int = 0

    def operations(self, checkpointing: Checkpointing = "none") -> int:
        """On one image at every step; blocks that are run again cost another forward pass."""
        has_backward = self.work.training > self.work.forward
        again = RUN_AGAIN[checkpointing] if has_backward else 0
        return self.work.training + round((self.extra_forwards + again) * self.work.forward)


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
    # What is no block of the trunk is kept in full.
    again = second.activations - first.activations
    ends = first.activations - again
    return replace(work, checkpointed=ends + depth * stream * FP32 if again else work.activations, again=again)


def measure(module: nn.Module, call: Call, is_bf16: bool) -> Work:
    """The work of one network as it is; arguments as for :func:`work_of`."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    learning = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    module = copy.deepcopy(module)
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = module.to_empty(device="cpu")
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output = call(module, 1)
            forward = int(counter.get_total_flops())
            if not output.requires_grad:
                return Work(parameters, forward, forward, learning=learning)
            output.sum().backward()  # type: ignore[no-untyped-call]
            training = int(counter.get_total_flops())
        # Copies of weights in bf16, and tables, are kept once: the difference of two batches leaves them out.
        one, two = (_kept(module, lambda size=size: call(module, size), is_bf16) for size in (1, 2))  # type: ignore[misc]
    return Work(parameters, forward, training, two - one, two - one, learning=learning)


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
