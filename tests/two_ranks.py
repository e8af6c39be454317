"""Runs a function in several processes that form a gloo group, as torchrun would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from raekit import distributed


def run(function: Callable[..., None], *arguments: Any, world: int = 2) -> None:
    """``function(*arguments)`` in ``world`` processes; a failing one fails the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_start, args=(world, port, function, arguments), nprocs=world)  # type: ignore[no-untyped-call]


def _start(rank: int, world: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    try:
        function(*arguments)
    finally:
        distributed.leave()
