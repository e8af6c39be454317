"""WebDataset tar files: an atomic writer, and an index of where each sample lies.

In: encoded members (``key.webp``, ``key.json``). Out: a tar that is byte for byte a function of its content, and
:func:`index_tar`, which says where every member of any WebDataset tar begins, so that samples can be read in any order
without unpacking. A tar that was cut short is refused when it is opened, never in the middle of a training run.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from raekit.data.sources import PREPARERS
from raekit.errors import UserError
from raekit.files import atomic_file, write_atomically
from raekit.liveness import sign_of_life

_log = logging.getLogger(__name__)

INDEX_FOLDER = Path("~/.cache/raekit/tars")
"""Where the indices of tars are kept that lie in folders nobody may write to."""

Span = tuple[int, int]
"""Byte offset and byte length of one member's content."""

_GZIP = b"\x1f\x8b"

Members = dict[str, Span]
"""The members of one sample by their suffix, e.g. ``{".webp": (1536, 2048), ".json": (4096, 310)}``."""


class TarWriter:
    """Writes ``path`` under another name and renames it on success, so that a half-written tar is never visible.

    Times, owners and modes are fixed: the same samples give the same bytes and therefore the same checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_samples = 0
        self._open = ExitStack()
        self._tar: tarfile.TarFile

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample; ``members`` maps suffixes (``".webp"``) to encoded content."""
        for suffix, content in members.items():
            info = tarfile.TarInfo(key + suffix)
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
        self.num_samples += 1

    def __enter__(self) -> TarWriter:
        half = self._open.enter_context(atomic_file(self.path))
        self._tar = self._open.enter_context(tarfile.open(half, "w", format=tarfile.USTAR_FORMAT))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


@dataclass(frozen=True)
class TarIndex:
    """Where the samples of one tar lie, in the order of the file."""

    path: Path
    keys: tuple[str, ...]
    members: tuple[Members, ...]


def index_tar(path: Path) -> TarIndex:
    """The index of a tar, made from its headers once and kept in ``<name>.index.json`` beside it.

    Where the folder is not writable the index is kept in :data:`INDEX_FOLDER`. One that does not fit the tar's size and
    time any more is made anew.

    Raises:
        UserError: the file is missing, is no plain tar, or ends before its last member does.
    """
    if not path.is_file():
        raise UserError(
            f"shard {path}: no such file; give the path of a .tar or of a folder that holds some{_made_by(path)}"
        )
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    beside = path.with_name(path.name + ".index.json")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    elsewhere = INDEX_FOLDER.expanduser() / f"{digest}.json"
    for cache in (beside, elsewhere):
        if held := _held_index(path, cache, stamp):
            return held
    index = _scan(path)
    sign_of_life()
    record = {"stamp": stamp, "keys": index.keys, "members": index.members}
    cache = beside if os.access(path.parent, os.W_OK) else elsewhere
    try:
        write_atomically(cache, json.dumps(record).encode())
    except UserError as error:
        _log.warning("the index of %s is made again next time: %s", path, error)
    return index


def _made_by(path: Path) -> str:
    """Which command makes the pictures that are missing, where the nano family's recipes look for one of its sets."""
    if path.parent.name != "data" or path.name not in PREPARERS:
        return ""
    return (
        f"; `raekit prepare data {path.name} --out {path}` makes the nano family's pictures, and the first lines of "
        "its recipes say with which settings"
    )


def _held_index(path: Path, cache: Path, stamp: list[int]) -> TarIndex | None:
    """A kept index, unless it is missing, broken, or of another state of the tar."""
    try:
        held = json.loads(cache.read_text())
        if held["stamp"] != stamp:
            return None
        spans = [{suffix: (span[0], span[1]) for suffix, span in row.items()} for row in held["members"]]
        return TarIndex(path, tuple(held["keys"]), tuple(spans))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _scan(path: Path) -> TarIndex:
    """Read every header once; samples are members that share the name up to its first dot."""
    samples: dict[str, Members] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                folder, _, name = info.name.rpartition("/")
                if not info.isfile() or name.startswith("."):  # "._a.jpg": what macOS adds to its archives
                    continue
                stem, dot, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                samples.setdefault(key, {})[(dot + suffix).lower()] = (info.offset_data, info.size)
            end = tar.offset
    except tarfile.TarError as error:
        with path.open("rb") as file:
            if file.read(2) == _GZIP:
                raise UserError(
                    f"shard {path}: compressed; read at random it must be a plain .tar, gunzip it"
                ) from None
        raise _truncated(path, str(error)) from None
    # Every tar ends with zero blocks. Without one, a file cut exactly between two members would pass as whole.
    with path.open("rb") as file:
        file.seek(max(0, end - tarfile.BLOCKSIZE))
        if tarfile.NUL * tarfile.BLOCKSIZE not in file.read(3 * tarfile.BLOCKSIZE):
            raise _truncated(path, "no end-of-archive marker")
    return TarIndex(path, tuple(samples), tuple(samples.values()))


def _truncated(path: Path, why: str) -> UserError:
    size = path.stat().st_size
    return UserError(f"shard {path}: cut short or not a tar ({why}, {size} bytes); delete it and prepare it again")
