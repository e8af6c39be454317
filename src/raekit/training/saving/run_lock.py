"""One run directory, one writer.

In: a run directory. Out: a lock that the operating system holds for this process and lets go of when the process ends,
however it ends: after a crash or SIGKILL nothing has to be cleaned up. Beside it lies who holds it, for the sentence
that the second one gets, and for file systems that know no locks: there a record counts as long as its process lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from raekit.errors import UserError

NAME = "run.lock"
HELD = (errno.EACCES, errno.EAGAIN)
"""System error numbers that mean: another process has it."""


class RunLock:
    """The right to write a run directory.

    It belongs to the process, not to the object: two objects of one process do not exclude one another. Processes that
    this one starts do not inherit it.

    Args:
        folder: the run directory, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object has it."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock, or keep it.

        Raises:
            UserError: another process writes this run; it is named. Or the place cannot be written to.
        """
        if self._descriptor is not None:
            return
        descriptor: int | None = None
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            self._lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(identity()).encode(), 0)
        except (OSError, UserError) as error:
            if descriptor is not None:
                os.close(descriptor)
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"run directory {str(self.path.parent)!r}: {NAME}: {error.strerror}; name a directory that can be "
                "written to, or free some space"
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of it, if held; the record goes too, which is all that file systems without locks go by."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # of a disk that has gone: the lock goes all the same
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _parsed(os.pread(descriptor, 4096, 0))
            if error.errno in HELD or is_alive(owner):
                hint = "" if error.errno in HELD or not _is_elsewhere(owner) else _unseen(self.path)
                raise UserError(f"run directory {str(self.path.parent)!r}: {_sentence(owner)}{hint}") from None


def identity() -> dict[str, Any]:
    """This process, so that nobody takes another one with the same number for it."""
    return {"host": socket.gethostname(), "process": os.getpid(), "started": _started(os.getpid())}


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process of a record still runs; one on another machine counts as running."""
    if not owner:
        return False
    if _is_elsewhere(owner):
        return True
    started = _started(int(owner.get("process", 0)))
    return started is not None and started == owner.get("started")


def _is_elsewhere(owner: dict[str, Any]) -> bool:
    return owner.get("host") != socket.gethostname()


def _unseen(path: Path) -> str:
    """What to do about a process that may be dead, for all that can be seen from here."""
    return f"; if it has ended already, delete {str(path)!r}: this file system has no locks to tell by"


def _started(process: int) -> str | None:
    """When a process of this machine began, in the kernel's ticks since boot; None where there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return None


def _parsed(record: bytes) -> dict[str, Any]:
    """The record in a lock file; empty while its owner is writing it."""
    try:
        return dict(json.loads(record))
    except ValueError:
        return {}


def _sentence(owner: dict[str, Any]) -> str:
    who = f"process {owner['process']} on {owner['host']}" if owner else "another process"
    return f"{who} is writing it; wait until it ends, or name another directory with --run"
