"""Gradients of replicated weights, averaged over the processes while the backward pass still goes on.

In: weights that every process holds alike. Out: their ``.grad`` as one process would have it for the whole batch. This
is what ``DistributedDataParallel`` does, for weights that are not used through one ``forward``: the players of stage 1
differentiate parts of a graph, draw twice and take turns, and a conditioner is asked for conditions in several ways.

Gradients fill buckets in the order in which a backward pass finds them, the last layers first. A full bucket is sent at
once and travels beside the rest of the pass. Buckets leave in one order on every process, also where a process's own
data left some weights without a gradient; those count as zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raekit import distributed

BUCKET_BYTES = 25 * 2**20
"""Gradients sent as one message: enough to be fast, few enough to start early (PyTorch's DDP has the same)."""


class Bucket:
    """Weights whose gradients travel together.

    Args:
        parameters: of one dtype and device.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.missing = {id(parameter) for parameter in parameters}
        self._flat: Tensor | None = None
        self._work: dist.Work | None = None

    def launch(self) -> None:
        """Send the gradients; from now on ``.grad`` are views of the message."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._flat = torch.cat([p.grad.reshape(-1) for p in self.parameters if p.grad is not None])
        parts = torch.split(self._flat, [p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        self._work = dist.all_reduce(self._flat, async_op=True)

    def finish(self) -> None:
        """Wait for the others, and divide."""
        assert self._work is not None and self._flat is not None
        self._work.wait()
        self._flat /= distributed.world()
        self._work = self._flat = None
        self.missing = {id(parameter) for parameter in self.parameters}


class Reducer:
    """Averages the gradients of some weights; with a single process it does nothing.

    Call :meth:`arm` ahead of the last backward pass of a step, and :meth:`finish` after it. Without the former all is
    sent at the end.

    Args:
        parameters: replicated, each of which gets at most one gradient a backward pass.
        bucket_bytes: of a message.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> None:
        held = list(parameters) if distributed.world() > 1 else []
        self.buckets = [Bucket(group) for group in _grouped(held[::-1], bucket_bytes)]
        self._sent, self._is_armed = 0, False
        for number, bucket in enumerate(self.buckets):
            for parameter in bucket.parameters:
                hook = partial(self._arrived, number)
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def arm(self) -> None:
        """The next backward pass is the step's last: send what it leaves."""
        self._is_armed = True

    def finish(self) -> None:
        """Send the rest, wait for everything; the gradients are averages now."""
        while self._sent < len(self.buckets):
            self._send_next()
        for bucket in self.buckets:
            bucket.finish()
        self._sent, self._is_armed = 0, False

    def _arrived(self, number: int, parameter: nn.Parameter) -> None:
        if not self._is_armed:
            return
        if number < self._sent:
            raise RuntimeError("a weight got a second gradient in the last backward pass of a step")
        self.buckets[number].missing.discard(id(parameter))
        while self._sent < len(self.buckets) and not self.buckets[self._sent].missing:
            self._send_next()

    def _send_next(self) -> None:
        self.buckets[self._sent].launch()
        self._sent += 1


def _grouped(parameters: Iterable[nn.Parameter], limit: int) -> list[list[nn.Parameter]]:
    """Weights in order, those of one dtype and device together, up to ``limit`` bytes."""
    groups: list[list[nn.Parameter]] = []
    open_groups: dict[tuple[torch.dtype, torch.device], tuple[list[nn.Parameter], int]] = {}
    for parameter in parameters:
        kind = (parameter.dtype, parameter.device)
        group, size = open_groups.get(kind, ([], limit))
        if size + parameter.nbytes > limit:
            group, size = [], 0
            groups.append(group)
        group.append(parameter)
        open_groups[kind] = (group, size + parameter.nbytes)
    return groups
