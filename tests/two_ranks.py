"""Runs a function in several processes that form a gloo group, as torchrun would start them.

The processes are forked from one server that has torch and the trainer imported, so that only the first run of a test
session waits for the imports; the server itself never computes anything.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from raekit import distributed

PRELOADED = ["raekit.training.stage1", "raekit.training.stage2", "raekit.training.loop", "tiny_recipes"]


def run(function: Callable[..., None], *arguments: Any, world: int = 2) -> None:
    """``function(*arguments)`` in ``world`` processes; a failing one fails the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Python 3.11's server does not look where its parent does, so it is told by the environment.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        multiprocessing.start_processes(  # type: ignore[no-untyped-call]
            _start, args=(world, port, function, arguments), nprocs=world, start_method="forkserver"
        )
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def _start(rank: int, world: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    try:
        function(*arguments)
    finally:
        distributed.leave()
