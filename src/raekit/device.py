"""Which device and arithmetic a run uses when the recipe leaves the choice open.

In: ``"auto"`` or a name. Out: a ``torch.device``, and the autocast context of a precision. Weights stay fp32; bf16 is
the arithmetic of matrix products only (norms, softmax, time embedding and losses stay fp32).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor

from raekit.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
ON_HOST = {"is_on_host": True}
"""Metadata of a tensor in a dataclass that the host reads: it stays there when the others move to a device."""


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA when there is one, else the CPU.

    A GPU is looked for and not touched: of several processes each would take memory on the first.

    Raises:
        UserError: a device that this machine has not.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type != "cuda":
            torch.empty(0, device=device)
        elif not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise RuntimeError("no such GPU")
    except (RuntimeError, AssertionError):
        raise UserError(
            f"device {name!r}: not usable on this machine; write auto, cpu or a device that torch sees"
        ) from None
    return device


def one_thread(device: torch.device, name: str) -> ThreadPoolExecutor:
    """A thread for work on a device; a GPU is its current one, for which a new thread else takes the first.

    Args:
        device: one of CUDA without an index is the caller's current one.
        name: start of the thread's name.
    """
    if device.type != "cuda":
        return ThreadPoolExecutor(1, thread_name_prefix=name)
    index = torch.cuda.current_device() if device.index is None else device.index
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=torch.cuda.set_device, initargs=(index,))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a GPU fetches one of the host by itself, and neither waits for the other."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def device_name(device: torch.device) -> str:
    """What a report calls a device: a GPU's own name, else ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def pick_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """``auto`` is bf16 where the hardware multiplies it faster than fp32: CUDA from Ampere on, CPUs with AMX.

    Raises:
        UserError: there is no such precision.
    """
    if precision not in get_args(Precision):
        raise UserError(f"precision: {precision!r} is not one of {', '.join(get_args(Precision))}")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The autocast context of a precision; nothing for fp32."""
    if pick_precision(precision, device) == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def keeping_casts(device: torch.device) -> AbstractContextManager[object]:
    """Weights that autocast rounds inside stay rounded until the end; arithmetic and results are what they were.

    It casts a weight that may learn once, but forgets all of them when its outermost use ends, which for a sampler is
    every evaluation. No weight may change inside.
    """
    return torch.autocast(
        device.type, torch.get_autocast_dtype(device.type), enabled=torch.is_autocast_enabled(device.type)
    )
