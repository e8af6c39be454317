"""Files that lie elsewhere: patterns of addresses, and copies on the local disk, whole or absent.

In: addresses such as ``https://host/web-{000..120}.tar`` or ``s3://bucket/web-*.tar``, or plain paths. Out: local
paths. A file is fetched whole, under another name, and renamed when it is complete, so that any server will do and any
number of processes on a machine share one copy. The folder of copies keeps to a size: what was used longest ago goes
first. Needs ``pip install 'raekit[remote]'`` (fsspec) as soon as an address is not a path.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import importlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raekit.data.patterns import expand, expand_braces
from raekit.errors import UserError

_log = logging.getLogger(__name__)

INSTALL_LINE = "pip install 'raekit[remote]'"

ATTEMPTS = 4
"""Times a file is asked for before the run stops; between them 1, 2 and 4 seconds."""

PAUSE_SECONDS = 1.0

NOTE_SUFFIXES = (".lock", ".samples")
"""Small files beside the copies, which stay when a copy goes."""


def is_remote(address: str) -> bool:
    """Whether an address is no path on this machine's disks."""
    return "://" in address and not address.startswith("file://")


def expand_addresses(patterns: Sequence[str]) -> list[str]:
    """The addresses that patterns stand for, in order: braces anywhere, ``*`` where the server can list its files.

    Raises:
        UserError: nothing matches, or the scheme is not known.
    """
    found: list[str] = []
    for pattern in patterns:
        if is_remote(pattern):
            for address in expand_braces(pattern):
                found += _matching(address) if glob.has_magic(address) else [address]
        else:
            found += [str(path) for path in expand(Path(pattern.removeprefix("file://")).expanduser())]
    return found


def read_if_there(address: str) -> bytes | None:
    """The content of a small file, or nothing where there is none.

    Raises:
        UserError: the server does not answer.
    """
    if not is_remote(address):
        path = Path(address)
        return path.read_bytes() if path.is_file() else None
    files, place = _file_system(address)
    try:
        return bytes(files.cat_file(place))
    except FileNotFoundError:
        return None
    except _failures() as error:
        raise _unreachable(address, error) from None


class RemoteFiles:
    """Local copies of files, fetched when they are asked for.

    Args:
        folder: of the copies; may be shared by processes and runs.
        gigabytes: what the copies may take together; the newest one may exceed it.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self.folder = folder.expanduser()
        self.num_bytes = int(gigabytes * 1e9)

    def fetch(self, address: str) -> Path:
        """A local path of the file: itself where it is one, else a copy.

        Raises:
            UserError: there is no such file, or the server cannot be reached.
        """
        if not is_remote(address):
            return Path(address.removeprefix("file://"))
        path = self.place_of(address)
        with self._locked(path):
            if path.is_file():
                _touch(path)
                return path
            _download(address, path)
            self._make_room(path)
        return path

    def forget(self, address: str) -> None:
        """Drop the copy of a file, so that it is fetched again."""
        if is_remote(address):
            _drop(self.place_of(address))

    def place_of(self, address: str) -> Path:
        """Where the copy of a file lies, or would."""
        digest = hashlib.sha256(address.encode()).hexdigest()[:16]
        return self.folder / f"{digest}-{Path(address.partition('?')[0]).name}"

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """One process at a time per file; the system frees the lock of one that dies."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.with_name(path.name + ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except PermissionError as error:
            raise UserError(
                f"cache {str(self.folder)!r}: {error.strerror}; name a folder that can be written"
            ) from None

    def _make_room(self, newest: Path) -> None:
        """Drop the copies used longest ago; whoever has one open reads on."""
        held = [(path, path.stat()) for path in self.folder.glob("*") if _is_copy(path)]
        total = sum(stat.st_size for _, stat in held)
        for path, stat in sorted(held, key=lambda pair: pair[1].st_atime_ns):
            if total <= self.num_bytes:
                return
            if path != newest:
                _drop(path)
                total -= stat.st_size


def _is_copy(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not path.name.endswith((*NOTE_SUFFIXES, ".json"))


def _touch(path: Path) -> None:
    """Note the time of use, which disks no longer do by themselves; the time of change stays, as indices hang on it."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _drop(path: Path) -> None:
    for file in (path, path.with_name(path.name + ".index.json")):
        file.unlink(missing_ok=True)


def _download(address: str, path: Path) -> None:
    """The file under its own name, once all of it is there."""
    files, place = _file_system(address)
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        for attempt in range(ATTEMPTS):
            try:
                files.get_file(place, str(half))
                half.replace(path)
                _touch(path)
                return
            except FileNotFoundError:
                raise UserError(f"shard {address}: no such file on the server; check the address") from None
            except _failures() as error:
                if attempt + 1 == ATTEMPTS:
                    raise _unreachable(address, error) from None
                _log.warning("%s: attempt %d of %d failed (%s)", address, attempt + 1, ATTEMPTS, error)
                time.sleep(PAUSE_SECONDS * 2**attempt)
    finally:
        half.unlink(missing_ok=True)


def _matching(pattern: str) -> list[str]:
    files, place = _file_system(pattern)
    try:
        found: list[str] = sorted(files.glob(place))
    except _failures() as error:
        raise _unreachable(pattern, error) from None
    if not found:
        raise UserError(f"shards {pattern}: nothing matches; web servers seldom list files, so write a range in braces")
    return [str(files.unstrip_protocol(name)) for name in found]


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the address within it."""
    try:
        files, place = importlib.import_module("fsspec.core").url_to_fs(address)
    except ImportError as error:
        raise UserError(f"shards {address}: {error}; {INSTALL_LINE}") from None
    except ValueError as error:
        raise UserError(f"shards {address}: {error}; http, https and s3 work with {INSTALL_LINE}") from None
    return files, place


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries behind fsspec raise when a connection fails; only those in use have been imported."""
    known = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    )
    return (OSError, *(getattr(sys.modules[module], name) for module, name in known if module in sys.modules))


def _unreachable(address: str, error: BaseException) -> UserError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{address}: cannot be fetched ({why}); check address, network and credentials, then go on")
