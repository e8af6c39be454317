"""Frozen tensors on disk: latents and text features that are computed once and read by row.

In: rows computed by a frozen network, in chunks. Out: memory-mapped tensors by row index. A cache is named by a content
key: everything that the rows depend on (encoder checksum, data, size). A cache made from anything else is another
folder, so stale rows can never be read. Chunks are written under another name and renamed, and those that are there are
verified by checksum when a build goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from raekit.errors import UserError
from raekit.files import sha256, write_atomically


class TensorCache:
    """Rows of named tensors below ``folder/<digest of key>``.

    Args:
        folder: where caches live.
        key: everything the rows depend on; JSON values.
        num_rows: rows of the whole cache.
        rows_per_chunk: rows per file; the last may have fewer.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], num_rows: int, rows_per_chunk: int = 1024) -> None:
        record = {"key": dict(key), "num_rows": num_rows, "rows_per_chunk": rows_per_chunk}
        text = json.dumps(record, sort_keys=True)
        self.path = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.num_rows, self.rows_per_chunk = num_rows, rows_per_chunk
        self.path.mkdir(parents=True, exist_ok=True)
        self._index = self.path / "cache.json"
        self._checksums: dict[str, str] = {}
        if self._index.is_file():
            held = json.loads(self._index.read_text())["chunks"]
            self._checksums = {name: checksum for name, checksum in held.items() if (self.path / name).is_file()}
        self._record = record
        self._open: dict[int, dict[str, Tensor]] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every chunk has been written."""
        return len(self._checksums) == self.num_chunks

    @property
    def num_chunks(self) -> int:
        """Files of the whole cache."""
        return -(-self.num_rows // self.rows_per_chunk)

    def missing(self) -> Iterator[range]:
        """The row ranges still to be computed, in order; chunks whose bytes have changed are among them."""
        for chunk in range(self.num_chunks):
            name = _name(chunk)
            held = self._checksums.get(name)
            if held is None or sha256(self.path / name) != held:
                start = chunk * self.rows_per_chunk
                yield range(start, min(start + self.rows_per_chunk, self.num_rows))

    def write(self, rows: range, tensors: Mapping[str, Tensor]) -> None:
        """Store the tensors (each ``[len(rows), ...]``) of one range that :meth:`missing` gave."""
        for name, tensor in tensors.items():
            if len(tensor) != len(rows):
                raise ValueError(f"{name} has {len(tensor)} rows for the range {rows.start}..{rows.stop}")
        chunk = rows.start // self.rows_per_chunk
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_atomically(self.path / _name(chunk), content)
        self._checksums[_name(chunk)] = hashlib.sha256(content).hexdigest()
        write_atomically(self._index, json.dumps({**self._record, "chunks": self._checksums}, indent=1).encode())
        self._open.pop(chunk, None)

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The tensors at the given rows, in the order given, each ``[len(rows), ...]``.

        Raises:
            UserError: the cache is not complete.
        """
        if not self.is_complete:
            done = f"{len(self._checksums)} of {self.num_chunks} chunks"
            raise UserError(f"cache {self.path}: holds {done}; run the command that made it again to finish it")
        found = [(self._chunk(row // self.rows_per_chunk), row % self.rows_per_chunk) for row in rows]
        return {name: torch.stack([chunk[name][row] for chunk, row in found]) for name in self._chunk(0)}

    def _chunk(self, number: int) -> dict[str, Tensor]:
        """One file, memory-mapped: pages are read when a row on them is."""
        if number not in self._open:
            self._open[number] = load_file(self.path / _name(number))
        return self._open[number]


def _name(chunk: int) -> str:
    return f"rows-{chunk:06d}.safetensors"
