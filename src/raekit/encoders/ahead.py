"""Encoding ahead: the frozen encoder works on the next batch while the decoder learns from this one.

In: batches, as a loader gives them, and what to do with one of them that needs no gradient. Out: each batch, on the
device, with its result, in order and the same to the bit as without this module. One thread pulls the batches and
starts the work; on CUDA the work goes to a stream of its own, from pinned memory, so that neither the loader nor the
encoder keeps the caller's stream waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from raekit.device import one_thread, sent

B = TypeVar("B")
R = TypeVar("R")


def encode_ahead(batches: Iterable[B], start: Callable[[B], R], device: torch.device | str) -> Iterator[tuple[B, R]]:
    """Pairs of a batch on ``device`` and ``start(batch)``, always one batch ahead of the caller.

    Args:
        batches: tensors, or dataclasses, dictionaries, lists and tuples that hold some; pulled in a thread. A field of
            a dataclass that is marked :data:`raekit.device.ON_HOST` stays where it is.
        start: runs in that thread, without gradients, under the autocast in force when this function is called.
        device: where batches are put and where ``start`` leaves its result.

    Returns:
        A generator. An error in ``batches`` or ``start`` is raised where the pair it spoilt would have come. Closing
        it stops the thread and closes ``batches``.
    """
    device = torch.device(device)
    enabled, dtype = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)

    def encode(batch: B) -> tuple[B, R]:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=enabled):
            moved: B = _map_tensors(lambda tensor: sent(tensor, device), batch)
            return moved, start(moved)

    side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    return _one_ahead(iter(batches), encode, side, one_thread(device, "encode-ahead"))


def _one_ahead(
    batches: Iterator[B], encode: Callable[[B], tuple[B, R]], side: torch.cuda.Stream | None, thread: ThreadPoolExecutor
) -> Iterator[tuple[B, R]]:
    def job(begin: torch.cuda.Event | None) -> tuple[tuple[B, R], torch.cuda.Event | None] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        if side is None or begin is None:
            return encode(batch), None
        with torch.cuda.stream(side):
            side.wait_event(begin)
            return encode(batch), side.record_event()

    def submit() -> Future[tuple[tuple[B, R], torch.cuda.Event | None] | None]:
        # What the caller has queued so far comes first; what it queues from now on runs beside the job.
        return thread.submit(job, None if side is None else torch.cuda.current_stream(side.device).record_event())

    try:
        waiting = submit()
        while (found := waiting.result()) is not None:
            waiting = submit()
            pair, ready = found
            if side is not None and ready is not None:
                _hand_over(pair, ready, torch.cuda.current_stream(side.device))
            yield pair
    finally:
        thread.shutdown(cancel_futures=True)
        if hasattr(batches, "close"):
            batches.close()


def _hand_over(pair: Any, ready: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
    """The caller's stream waits for the side stream's work, and keeps its memory for as long as it needs it."""

    def keep(tensor: Tensor) -> Tensor:
        if tensor.is_cuda:
            tensor.record_stream(stream)
        return tensor

    stream.wait_event(ready)
    _map_tensors(keep, pair)


def _map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    """``value`` with each tensor in it changed, but for what stays on the host; what holds none is left as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if not field.metadata.get("is_on_host")]
        return replace(value, **{name: _map_tensors(change, getattr(value, name)) for name in names})
    if isinstance(value, dict):
        return {key: _map_tensors(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_map_tensors(change, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
