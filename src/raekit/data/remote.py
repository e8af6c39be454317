"""Files that lie elsewhere: patterns of addresses, and copies on the local disk, whole or absent.

In: addresses such as ``https://host/web-{000..120}.tar`` or ``s3://bucket/web-*.tar``, or plain paths. Out: local
paths. A file is fetched whole, under another name, and renamed when it is complete, so that any server will do and any
number of processes on a machine share one copy. The folder of copies keeps to a size: what was used longest ago goes
first. A server that fails for a while is asked again for minutes, and so is a disk; what it refuses, or lacks, is told
at once. Needs ``pip install 'raekit[remote]'`` (fsspec) as soon as an address is not a path.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from raekit.data.patterns import expand, expand_braces
from raekit.errors import UserError
from raekit.files import DISK_FULL, disk_sentence, flush, write_atomically

T = TypeVar("T")
Sentence = Callable[[str, BaseException], UserError]

_log = logging.getLogger(__name__)

INSTALL_LINE = "pip install 'raekit[remote]'"

RETRY_SECONDS = 300.0
"""How long a server that fails is asked again before the run stops."""
FIRST_PAUSE_SECONDS = 1.0
"""Between the first two attempts; each later pause is twice as long."""
LONGEST_PAUSE_SECONDS = 60.0
MARKS = ("ETag", "Content-MD5", "Digest", "md5Hash", "checksum")
"""What servers call the mark of a file's content, the surest first."""
TIMES = ("Last-Modified", "LastModified", "mtime", "created")
"""What they call the time of its last change."""
SILENT_SECONDS = 60
"""Seconds without a byte after which a web server counts as failing; a whole file may take as long as it takes."""
REFUSED = (400, 401, 403, 410)
"""HTTP codes that stay the same however often one asks."""
STALE_SECONDS = 600
"""Age of a half-fetched file that nobody writes to any more: far more than a server may be silent."""

REPLACED = (
    "shard %s: was replaced on its server since it was first fetched (%s then, %s now), so its positions may hold "
    "other samples; for an exact run give changed shards another name"
)
NOTE_SUFFIXES = (".lock", ".samples", ".identity")
"""Small files beside the copies, which stay when a copy goes."""


def is_remote(address: str) -> bool:
    """Whether an address is no path on this machine's disks."""
    return "://" in address and not address.startswith("file://")


def expand_addresses(patterns: Sequence[str], retry_seconds: float = RETRY_SECONDS) -> list[str]:
    """The addresses that patterns stand for, in order: braces anywhere, ``*`` where the server can list its files.

    Args:
        patterns: of addresses or paths.
        retry_seconds: how long a server that fails is asked again.

    Raises:
        UserError: nothing matches, the scheme is not known, or the server cannot be reached.
    """
    found: list[str] = []
    for pattern in patterns:
        if is_remote(pattern):
            for address in expand_braces(pattern):
                is_pattern = glob.has_magic(without_query(address) if address.startswith("http") else address)
                found += _matching(address, retry_seconds) if is_pattern else [address]
        else:
            found += [str(path) for path in expand(Path(pattern.removeprefix("file://")).expanduser())]
    return found


def without_query(address: str) -> str:
    """An address without what follows its ``?``: signatures and dates of expiry are no part of what it names."""
    return address.partition("?")[0] if is_remote(address) else address


def read_if_there(address: str, retry_seconds: float = RETRY_SECONDS) -> bytes | None:
    """The content of a small file, or nothing where there is none, or none that may be read.

    Stores that do not let their files be listed answer 403 for one that is absent.

    Args:
        address: of the file.
        retry_seconds: how long a server that fails is asked again.

    Raises:
        UserError: the server does not answer.
    """
    if not is_remote(address):
        path = Path(address)
        return path.read_bytes() if path.is_file() else None
    files, place = _file_system(address)
    try:
        return bytes(_asked(address, lambda: files.cat_file(place), time.monotonic() + retry_seconds))
    except (FileNotFoundError, _Refused):
        return None


def identity_of(address: str, retry_seconds: float = RETRY_SECONDS) -> str:
    """What tells the content of a remote file from another's: its size and the mark that its server gives it.

    Where the server gives none, the address without its query, and the time of the last change as far as it is known.

    Args:
        address: of the file.
        retry_seconds: how long a server that fails is asked again.

    Raises:
        UserError: there is no such file, or the server cannot be reached.
    """
    files, place = _file_system(address)

    def ask() -> dict[str, Any]:
        try:
            return dict(files.info(place))
        except FileNotFoundError as error:  # what fsspec makes of every failure of a web server
            cause = error.__cause__
            raise cause if cause is not None and getattr(cause, "status", 404) != 404 else error from None

    try:
        told = _asked(address, ask, time.monotonic() + retry_seconds)
    except FileNotFoundError:
        raise _missing(address) from None
    except _Refused as error:
        raise _unreachable(address, error) from None
    if mark := next((told[name] for name in MARKS if told.get(name)), None):
        return f"{told.get('size')} {mark}"
    time_of = next((told[name] for name in TIMES if told.get(name)), None)
    return f"{without_query(address)} {told.get('size')} {time_of}"


def read_patiently(what: str, read: Callable[[], T], retry_seconds: float = RETRY_SECONDS) -> T:
    """What ``read`` gives; a disk that fails is read again for ``retry_seconds``, as a server is asked again.

    Raises:
        UserError: it still fails, or may not be read; ``what`` begins the sentence.
        FileNotFoundError: there is no such file.
    """
    try:
        return _asked(what, read, time.monotonic() + retry_seconds, _unreadable)
    except (_Refused, _Full) as error:
        raise _unreadable(what, error) from None


class RemoteFiles:
    """Local copies of files, fetched when they are asked for.

    Args:
        folder: of the copies; may be shared by processes and runs.
        gigabytes: what the copies may take together; the newest one may exceed it.
        retry_seconds: how long a server that fails is asked again.
    """

    def __init__(self, folder: Path, gigabytes: float, retry_seconds: float = RETRY_SECONDS) -> None:
        self.folder = folder.expanduser()
        self.num_bytes = int(gigabytes * 1e9)
        self.retry_seconds = retry_seconds

    def fetch(self, address: str) -> Path:
        """A local path of the file: itself where it is one, else a copy.

        Raises:
            UserError: there is no such file, the server cannot be reached, or the disk is full.
        """
        if not is_remote(address):
            return Path(address.removeprefix("file://"))
        path = self.place_of(address)
        # From here on, so that processes which wait for each other's attempts do not each wait anew.
        deadline = time.monotonic() + self.retry_seconds
        with self._locked(path):
            if path.is_file():
                _touch(path)
                return path
            _download(address, path, deadline)
            _tell_if_replaced(address, path)
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
        """Drop the copies used longest ago; whoever has one open reads on. What is being fetched counts too."""
        held = [(path, path.stat()) for path in self.folder.glob("*") if _is_copy(path)]
        total = sum(stat.st_size for _, stat in held) + self._swept()
        for path, stat in sorted(held, key=lambda pair: pair[1].st_atime_ns):
            if total <= self.num_bytes:
                return
            if path != newest:
                _drop(path)
                total -= stat.st_size

    def _swept(self) -> int:
        """Remove what processes that were killed had half fetched; the bytes that others are fetching now."""
        total = 0
        for half in self.folder.glob(f".*{_HALF}"):
            try:
                stat = half.stat()
                if time.time() - stat.st_mtime > STALE_SECONDS and _is_free(half):
                    half.unlink(missing_ok=True)
                else:
                    total += stat.st_size
            except FileNotFoundError:  # whole by now
                continue
        return total


_HALF = ".part"


def _is_free(half: Path) -> bool:
    """Whether no process holds the lock under which a half-fetched file, ``.NAME.PROCESS.part``, is written."""
    name = half.name.removesuffix(_HALF).rpartition(".")[0].removeprefix(".")
    with half.with_name(name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_copy(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not path.name.endswith((*NOTE_SUFFIXES, ".json"))


def _touch(path: Path) -> None:
    """Note the time of use, which disks no longer do by themselves; the time of change stays, as indices hang on it."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _drop(path: Path) -> None:
    for file in (path, path.with_name(path.name + ".index.json")):
        file.unlink(missing_ok=True)


def _download(address: str, path: Path, deadline: float) -> None:
    """The file under its own name, once all of it is there."""
    files, place = _file_system(address)
    half = path.with_name(f".{path.name}.{os.getpid()}{_HALF}")
    try:
        try:
            _asked(address, lambda: files.get_file(place, str(half)), deadline)
        except FileNotFoundError:
            raise _missing(address) from None
        except _Refused as error:
            raise _unreachable(address, error) from None
        except _Full as error:
            raise UserError(disk_sentence(path, error)) from None
        flush(half)  # or a power cut leaves a copy of the right name without its bytes
        half.replace(path)
        _touch(path)
    finally:
        half.unlink(missing_ok=True)


def _tell_if_replaced(address: str, path: Path) -> None:
    """Say so where a server now has another file under an address than the one that was first fetched from there."""
    try:
        identity = identity_of(address, 0)
    except UserError:  # it gives files, and will not say anything of them
        return
    note = path.with_name(path.name + ".identity")
    before = note.read_text(encoding="utf-8") if note.is_file() else None
    if before not in (None, identity):
        _log.warning(REPLACED, address, before, identity)
    if before != identity:
        write_atomically(note, identity.encode())


class _Refused(Exception):
    """A server's answer that stays the same however often one asks."""


class _Full(Exception):
    """There is no room on this machine's disk."""

    errno = DISK_FULL[0]


def _asked(address: str, ask: Callable[[], T], deadline: float, failing: Sentence | None = None) -> T:
    """What a server answers, or a disk; one that fails is asked again until the deadline, after pauses that grow.

    Raises:
        UserError: it still fails.
        FileNotFoundError: it says that there is no such file.
        _Refused: it says that it may not be read.
        _Full: there is no room for it.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except _failures() as error:
            if getattr(error, "errno", None) in DISK_FULL:
                raise _Full(str(error)) from None
            if isinstance(error, PermissionError) or getattr(error, "status", None) in REFUSED:
                raise _Refused(str(error)) from None
            left = deadline - time.monotonic()
            if left <= 0:
                raise (failing or _unreachable)(address, error) from None
            pause = min(pause, left)
            _log.warning("%s: %s; asked again in %.0f s, for %.0f s more", address, _why(error), pause, left)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _matching(pattern: str, retry_seconds: float) -> list[str]:
    files, place = _file_system(pattern)
    try:
        found: list[str] = sorted(_asked(pattern, lambda: files.glob(place), time.monotonic() + retry_seconds))
    except (FileNotFoundError, _Refused) as error:
        raise _unreachable(pattern, error) from None
    if not found:
        raise UserError(f"shards {pattern}: nothing matches; web servers seldom list files, so write a range in braces")
    return [str(files.unstrip_protocol(name)) for name in found]


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the address within it."""
    try:
        files, place = importlib.import_module("fsspec.core").url_to_fs(address, **_client_settings(address))
    except ImportError as error:
        raise UserError(f"shards {address}: {error}; {INSTALL_LINE}") from None
    except ValueError as error:
        raise UserError(f"shards {address}: {error}; http, https and s3 work with {INSTALL_LINE}") from None
    return files, place


def _client_settings(address: str) -> dict[str, Any]:
    """For web servers: no limit for a whole file, where aiohttp's own is five minutes, but one for silence."""
    scheme = address.partition("://")[0]
    if scheme not in ("http", "https"):
        return {}
    timeout = importlib.import_module("aiohttp").ClientTimeout(total=None, sock_connect=30, sock_read=SILENT_SECONDS)
    own = importlib.import_module("fsspec.config").conf.get(scheme, {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": timeout, **own}}


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries behind fsspec raise when a connection fails; only those in use have been imported."""
    known = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    )
    return (OSError, *(getattr(sys.modules[module], name) for module, name in known if module in sys.modules))


def _why(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _missing(address: str) -> UserError:
    return UserError(f"shard {address}: no such file on the server; check the address")


def _unreachable(address: str, error: BaseException) -> UserError:
    return UserError(
        f"{address}: cannot be fetched ({_why(error)}); check address, network and credentials, then go on"
    )


def _unreadable(what: str, error: BaseException) -> UserError:
    return UserError(f"{what}: cannot be read ({_why(error)}); see to the disk, then go on with --resume")
