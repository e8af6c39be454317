"""Weights that are drawn after they were cut: no process ever holds a whole copy of a large network.

In: how to build a network. Out: first its outline, on the meta device, without a number in it; and, once it has been
cut by ``fully_shard``, its pieces, filled with the very numbers that an ordinary build from the same seed gives them.

Every random matrix is drawn whole, by every process, in the order of an ordinary build; each keeps its own piece and
throws the rest away. That costs time once, and memory for one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from raekit.training.parallel.sharding import cut_like, piece

RANDOM = (Tensor.uniform_, Tensor.normal_)
"""What initial weights are drawn with, beside the functions of ``torch.nn.init``."""

M = TypeVar("M", bound=nn.Module)


class DeferredDraws(TorchFunctionMode):
    """Draws into outlines, pieces and accelerators take the CPU's numbers, as draws into whole tensors there do.

    Args:
        is_drawn: false: such draws are left out, and so is what they would change.

    Attributes:
        states: of the generator ahead of each such draw.
    """

    def __init__(self, is_drawn: bool = True) -> None:
        super().__init__()
        self.is_drawn = is_drawn
        self.states: list[Tensor] = []
        # Kept: freed and asked for again beside lasting states, each matrix would get a place of its own.
        self._room: dict[torch.dtype, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = kwargs.get("tensor", args[0] if args else None)
        is_random = func in RANDOM or getattr(func, "__module__", None) == nn.init.__name__
        if not (is_random and isinstance(target, Tensor) and _is_elsewhere(target)):
            return func(*args, **kwargs)
        if not self.is_drawn:
            return target
        self.states.append(torch.get_rng_state())
        drawn = self._empty(target)
        func(
            *(drawn if value is target else value for value in args),
            **{name: drawn if value is target else value for name, value in kwargs.items()},
        )
        if not target.is_meta:
            with torch.no_grad():
                piece(target).copy_(piece(cut_like(drawn.to(target.device), target)))
        return target

    def _empty(self, target: Tensor) -> Tensor:
        """Room in main memory for a tensor of the same shape, which the next one takes over."""
        room = self._room.get(target.dtype)
        if room is None or room.numel() < target.numel():
            room = self._room[target.dtype] = torch.empty(target.numel(), dtype=target.dtype, device="cpu")
        return room[: target.numel()].view(target.shape)


def _is_elsewhere(target: Tensor) -> bool:
    """Whether drawing into a tensor would not take the CPU's numbers: an outline, a piece, or on an accelerator."""
    return isinstance(target, DTensor) or target.device.type != "cpu"


class Deferred(Generic[M]):
    """A network that is built as an outline and filled later.

    Args:
        initialise: sets every weight and table of a built network; the last thing that building it does.
    """

    def __init__(self, initialise: Callable[[M], None]) -> None:
        self._initialise = initialise
        self._start: Tensor | None = None

    def build(self, build: Callable[[], M]) -> M:
        """The outline; the generator is afterwards where an ordinary build leaves it."""
        with DeferredDraws() as drawing, torch.device("meta"):
            network = build()
        end = torch.get_rng_state()
        with DeferredDraws() as again, torch.no_grad():
            self._initialise(network)
        self._start = drawing.states[-len(again.states)] if again.states else end
        torch.set_rng_state(end)
        return network

    def fill(self, network: M, device: torch.device, is_drawn: bool = True) -> None:
        """Give the outline, cut or not, its numbers, on a device.

        Args:
            network: what :meth:`build` gave.
            device: where it will lie.
            is_drawn: false: tables and constants alone, where every weight is given afterwards.
        """
        assert self._start is not None, "build it first"
        network.to_empty(device=device)
        now = torch.get_rng_state()
        torch.set_rng_state(self._start)
        with DeferredDraws(is_drawn), torch.no_grad():
            self._initialise(network)
        torch.set_rng_state(now)
