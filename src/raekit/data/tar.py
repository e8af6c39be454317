"""WebDataset tar files: an atomic writer, and an index of where each sample lies.

In: encoded members (``key.webp``, ``key.json``). Out: a tar that is byte for byte a function of its content, and
:func:`index_tar`, which says where every member of any WebDataset tar begins, so that samples can be read in any order
without unpacking. A tar that was cut short is refused when it is opened, never in the middle of a training run.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from raekit.errors import UserError

Span = tuple[int, int]
"""Byte offset and byte length of one member's content."""

Members = dict[str, Span]
"""The members of one sample by their suffix, e.g. ``{".webp": (1536, 2048), ".json": (4096, 310)}``."""


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens in between."""
    half = path.with_name(path.name + ".half")
    half.write_bytes(content)
    os.replace(half, path)


class TarWriter:
    """Writes ``path`` under another name and renames it on success, so that a half-written tar is never visible.

    Times, owners and modes are fixed: the same samples give the same bytes and therefore the same checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_samples = 0
        self._half = path.with_name(path.name + ".half")
        self._tar = tarfile.open(self._half, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample; ``members`` maps suffixes (``".webp"``) to encoded content."""
        for suffix, content in members.items():
            info = tarfile.TarInfo(key + suffix)
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
        self.num_samples += 1

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()
        if kind is None:
            os.replace(self._half, self.path)
        else:
            self._half.unlink(missing_ok=True)


@dataclass(frozen=True)
class TarIndex:
    """Where the samples of one tar lie, in the order of the file."""

    path: Path
    keys: tuple[str, ...]
    members: tuple[Members, ...]


def index_tar(path: Path) -> TarIndex:
    """The index of a tar, read from ``<name>.index.json`` beside it or made from its headers and kept there.

    Raises:
        UserError: the file is missing, is no tar, or ends before its last member does.
    """
    if not path.is_file():
        raise UserError(f"shard {path}: no such file; give the path of a .tar or of a folder that holds some")
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    cache = path.with_name(path.name + ".index.json")
    if cache.is_file():
        held = json.loads(cache.read_text())
        if held["stamp"] == stamp:
            spans = [{suffix: (span[0], span[1]) for suffix, span in row.items()} for row in held["members"]]
            return TarIndex(path, tuple(held["keys"]), tuple(spans))
    index = _scan(path)
    if os.access(path.parent, os.W_OK):
        record = {"stamp": stamp, "keys": index.keys, "members": index.members}
        write_atomically(cache, json.dumps(record).encode())
    return index


def _scan(path: Path) -> TarIndex:
    """Read every header once; samples are members that share the name up to its first dot."""
    samples: dict[str, Members] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isfile():
                    continue
                folder, _, name = info.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                samples.setdefault(key, {})[(dot + suffix).lower()] = (info.offset_data, info.size)
            end = tar.offset
    except tarfile.TarError as error:
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
