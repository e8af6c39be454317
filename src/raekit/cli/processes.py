"""Verbs that several processes do as one, and verbs that one process does by itself.

In: a verb, and the processes that ``torchrun`` started. Out: the verb, whose work they share out
(:mod:`raekit.shares`), of which the first alone prints and writes; or a refusal, where all would write the same files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from raekit.errors import UserError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""What torchrun sets. Written again here so that a verb which is alone need not wait for torch."""


def num_processes() -> int:
    """How many processes ``torchrun`` announces; 1 without it."""
    is_announced = all(name in os.environ for name in VARIABLES)
    return int(os.environ["WORLD_SIZE"]) if is_announced else 1


def shared(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose work all processes share out; its keyword ``device`` becomes this process's own."""

    @wraps(verb)
    def run(**options: Any) -> None:
        if num_processes() == 1:
            verb(**options)
            return
        from raekit import distributed
        from raekit.device import pick_device

        is_guest = distributed.world() > 1
        device = distributed.join(pick_device(options["device"] or "auto"), "--device")
        try:
            with _one_voice():
                verb(**{**options, "device": str(device)})
        finally:
            if not is_guest:
                distributed.leave()

    return run


def check_alone(verb: str) -> None:
    """Refuse a verb that one process does by itself.

    Raises:
        UserError: there are several.
    """
    if (number := num_processes()) > 1:
        raise UserError(f"{verb}: started as {number} processes, which would all do the same; start it as one")


def check_out(out: Path) -> None:
    """See, on the process that writes, that it can.

    Raises:
        UserError: ``out`` cannot be made or written to.
    """
    from raekit import distributed
    from raekit.files import make_writable

    if distributed.is_main():
        make_writable(out, "--out")


@contextmanager
def _one_voice() -> Iterator[None]:
    """Share out the work of the block; only the first process is heard, also of what went wrong anywhere."""
    from raekit import distributed, shares

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (sys.stdout, sys.stderr) if distributed.is_main() else (nowhere, nowhere)
        try:
            with redirect_stdout(out), redirect_stderr(err), shares.sharing():
                words = shares.gathered(sys.argv[1:], "the command")
                if any(other != words[0] for other in words):
                    raise UserError("processes: were started with different words; give all the same command")
                yield
        except UserError:
            if distributed.is_main():
                raise
            raise typer.Exit(2) from None
