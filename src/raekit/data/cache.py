"""Frozen tensors on disk: latents and text features that are computed once and read by row.

In: rows computed by a frozen network, in chunks. Out: memory-mapped tensors by row index. A cache is named by a content
key: everything that the rows depend on (checksum of the network, fingerprint of the data, size). A cache made from
anything else is another folder, so stale rows can never be read.

Every chunk is one safetensors file that says everything about itself: the checksum of its content, the facts that go
with its rows (captions, classes), and the error its precision cost. It appears whole or not at all, so any number of
processes fill a cache side by side without a word to each other, and what a stopped build left is the beginning of the
next one.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from raekit.data import storage
from raekit.data.storage import StoredPrecision
from raekit.errors import UserError
from raekit.files import write_atomically
from raekit.liveness import sign_of_life

WRITERS = 2
"""Threads that hash and write chunks while the next one is computed."""

MAX_OPEN = 512
"""Chunks mapped into memory at once. Each takes an entry of the system's table of mappings, which holds 65,530."""

Write = Callable[..., None]


class TensorCache:
    """Rows of named tensors below ``folder/<digest of key>``.

    Args:
        folder: where caches live.
        key: everything the rows depend on; JSON values.
        num_rows: rows of the whole cache.
        rows_per_chunk: rows per file; the last may have fewer.
        precision: of floating-point tensors on disk.
        channel: the dimension of a tensor ``[rows, ...]`` whose entries have a scale each in int8.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        num_rows: int,
        rows_per_chunk: int = 1024,
        precision: StoredPrecision = "fp32",
        channel: int = 1,
    ) -> None:
        record = {"key": dict(key), "num_rows": num_rows, "rows_per_chunk": rows_per_chunk, "precision": precision}
        content = json.dumps(record, sort_keys=True, indent=1).encode()
        self.path = folder / hashlib.sha256(content).hexdigest()[:16]
        self.num_rows, self.rows_per_chunk = num_rows, rows_per_chunk
        self.precision, self.channel = precision, channel
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "cache.json").is_file():
            write_atomically(self.path / "cache.json", content)
        # Without the facts: those of millions of rows stay on the disk.
        self._headers: dict[int, dict[str, str]] = {}
        self._open: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        self._lock = threading.Lock()  # of threads that read
        self.look_again()

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is there."""
        return len(self._headers) == self.num_chunks

    @property
    def num_chunks(self) -> int:
        """Files of the whole cache."""
        return -(-self.num_rows // self.rows_per_chunk)

    @property
    def num_bytes(self) -> int:
        """What the chunks that are there take on the disk."""
        return sum((self.path / _name(chunk)).stat().st_size for chunk in self._headers)

    @property
    def error(self) -> float:
        """Root of the mean squared difference between computed and stored rows, over the root of their mean square."""
        pairs = [json.loads(header["error"]) for header in self._headers.values()]
        power = sum(pair[1] for pair in pairs)
        return math.sqrt(sum(pair[0] for pair in pairs) / power) if power else 0.0

    def look_again(self) -> None:
        """Find the chunks that other processes have finished."""
        for chunk in range(self.num_chunks):
            if chunk not in self._headers and (header := _header(self.path / _name(chunk))) is not None:
                self._headers[chunk] = _brief(header)

    def missing(self, part: int = 0, parts: int = 1, is_verified: bool = True) -> Iterator[range]:
        """The row ranges still to be computed, in order.

        Args:
            part: of this process; it takes every ``parts``-th chunk.
            parts: how many processes there are.
            is_verified: also those whose content does not fit its checksum, which reads every file.
        """
        for chunk in range(part, self.num_chunks, parts):
            if chunk in self._headers and is_verified and not self._is_sound(chunk):
                del self._headers[chunk]
            if chunk not in self._headers:
                start = chunk * self.rows_per_chunk
                yield range(start, min(start + self.rows_per_chunk, self.num_rows))

    def write(self, rows: range, tensors: Mapping[str, Tensor], facts: Sequence[Any] | None = None) -> None:
        """Store one range that :meth:`missing` gave.

        Args:
            rows: the range.
            tensors: each ``[len(rows), ...]``.
            facts: JSON values that go with the rows, one each.
        """
        for name, length in {**{n: len(t) for n, t in tensors.items()}, "facts": len(facts or rows)}.items():
            if length != len(rows):
                raise ValueError(f"{name} has {length} rows for the range {rows.start}..{rows.stop}")
        stored: dict[str, Tensor] = {}
        error = power = 0.0
        for name, tensor in tensors.items():
            tensor = tensor.detach().cpu()
            packed = storage.pack(name, tensor, self.precision, self.channel)
            stored |= {n: value.contiguous() for n, value in packed.items()}
            if tensor.is_floating_point():
                lost, had = storage.squared_error(tensor, packed)
                error, power = error + lost, power + had
        header = {"facts": json.dumps(list(facts or [])), "error": json.dumps([error, power])}
        header["sha256"] = _checksum(stored, header)
        chunk = rows.start // self.rows_per_chunk
        write_atomically(self.path / _name(chunk), save(stored, metadata=header))
        self._headers[chunk] = _brief(header)
        with self._lock:
            self._open.pop(chunk, None)

    @contextmanager
    def filling(self) -> Iterator[Write]:
        """:meth:`write`, done by threads while the caller computes on; at most a few chunks wait in memory.

        Raises:
            UserError: a chunk could not be written; at the next write, or at the end.
        """
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="cache-writer") as threads:

            def write(rows: range, tensors: Mapping[str, Tensor], facts: Sequence[Any] | None = None) -> None:
                waiting.append(threads.submit(self.write, rows, tensors, facts))
                while len(waiting) > WRITERS:
                    waiting.pop(0).result()

            yield write
            for future in waiting:
                future.result()

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The tensors at the given rows, in the order given, each ``[len(rows), ...]``; int8 comes back as fp32.

        Raises:
            UserError: the cache is not complete.
        """
        self._check_complete()
        found = [(self._chunk(row // self.rows_per_chunk), row % self.rows_per_chunk) for row in rows]
        return storage.unpack({name: torch.stack([chunk[name][row] for chunk, row in found]) for name in found[0][0]})

    def facts(self) -> Iterator[Any]:
        """What was stored beside each row, in order; read from the disk, a chunk at a time.

        Raises:
            UserError: the cache is not complete, or not any more.
        """
        self._check_complete()
        for chunk in range(self.num_chunks):
            header = _header(self.path / _name(chunk))
            if header is None:
                raise self._lost(chunk, "it is absent or cut short")
            yield from json.loads(header["facts"])

    def _check_complete(self) -> None:
        if not self.is_complete:
            done = f"{len(self._headers)} of {self.num_chunks} chunks"
            raise UserError(f"cache {self.path}: holds {done}; run the command that made it again to finish it")

    def _is_sound(self, chunk: int) -> bool:
        header = _header(self.path / _name(chunk))
        try:
            content = load_file(self.path / _name(chunk))
        except (OSError, SafetensorError):
            return False
        sign_of_life()
        return header is not None and _checksum(content, header) == header["sha256"]

    def _chunk(self, number: int) -> dict[str, Tensor]:
        """One file, memory-mapped: pages are read when a row on them is."""
        with self._lock:
            if number not in self._open:
                self._open[number] = self._loaded(number)
            self._open.move_to_end(number)
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return self._open[number]

    def _loaded(self, number: int) -> dict[str, Tensor]:
        try:
            return load_file(self.path / _name(number))
        except (OSError, SafetensorError) as error:
            raise self._lost(number, str(error)) from None

    def _lost(self, number: int, why: str) -> UserError:
        return UserError(
            f"cache {str(self.path)!r}: {_name(number)} was there at the start and cannot be read now ({why}); leave "
            "the cache in place while a run reads it, and go on with --resume, which makes it again"
        )


def _brief(header: Mapping[str, str]) -> dict[str, str]:
    """What is asked of a chunk again and again."""
    return {name: header[name] for name in ("sha256", "error")}


def _header(path: Path) -> dict[str, str] | None:
    """What a chunk says about itself; nothing where there is none, or not all of it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            record = json.loads(file.read(min(length, path.stat().st_size)))
        end = max((entry["data_offsets"][1] for name, entry in record.items() if name != "__metadata__"), default=0)
        header: dict[str, str] = record["__metadata__"]
        return header if path.stat().st_size == 8 + length + end and "sha256" in header else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Over the numbers and what is said of them."""
    digest = hashlib.sha256(f"{header['facts']}\n{header['error']}\n".encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _name(chunk: int) -> str:
    return f"rows-{chunk:06d}.safetensors"
