"""Digests that tell data sets apart by their content, without reading all of it.

In: names, sizes, and the beginning and end of files. Out: hexadecimal digits. Times and places do not count, so a data
set may be copied and moved. A file that keeps its name, its size and both ends counts as the same; compressed pictures
and tars do not change in the middle alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

END_BYTES = 4096
"""What is read of each end of a file."""
NUM_NAMES = 64
"""Samples whose names are looked at where only their order is in question."""


def fingerprint_of(values: Iterable[object]) -> str:
    """The digest of some values, by how they are written."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(f"{value}\n".encode())
    return digest.hexdigest()


def names_digest(length: int, key_of: Callable[[int], str]) -> str:
    """The digest of how many samples there are and what some of them, evenly spread, are called; nothing is opened."""
    places = sorted({(length - 1) * number // (NUM_NAMES - 1) for number in range(NUM_NAMES)}) if length else []
    return fingerprint_of([length, *map(key_of, places)])


def sketch_of(path: Path) -> str:
    """The digest of a file's size and ends; a word for one that is not there."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(END_BYTES)
            file.seek(max(size - END_BYTES, 0))
            return hashlib.sha256(b"%d\n" % size + head + file.read(END_BYTES)).hexdigest()[:32]
    except OSError:
        return "absent"
