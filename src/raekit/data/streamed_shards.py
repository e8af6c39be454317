"""WebDataset tars read front to back, from a web server, an object store or a disk.

In: addresses of tars with braces, such as ``https://host/web-{000..120}.tar`` or ``s3://bucket/web-{000..120}.tar``.
Out: :class:`Sample` by index, in an order made for streaming (``stream_order.py``): a few shards at a time, shuffled
within a buffer. A shard is fetched whole before its turn, by threads, into a folder of bounded size; nothing else is
asked of a server than files. The sample at a position depends on (seed, position) alone, so the state of the stream is
that one integer, in the middle of a shard as well, on any number of processes.

That needs the number of samples in each shard. It is found in the ``manifest.json`` of ``raekit prepare data`` or a
WebDataset's ``sizes.json`` beside the shards; otherwise each shard is read through once and the number is noted.

A shard whose content is broken is fetched once more, then passed over as a whole, the same way every time; a server
or a disk that fails for minutes stops the run, since what is read must not depend on the weather of the network.
"""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raekit.data.builder import MANIFEST
from raekit.data.decode import decode_image
from raekit.data.fingerprint import fingerprint_of, sketch_of
from raekit.data.readahead import ReadAhead
from raekit.data.remote import (
    RemoteFiles,
    expand_addresses,
    identity_of,
    is_remote,
    read_if_there,
    read_patiently,
    without_query,
)
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.data.sidecars import SIDECARS, picture_of, picture_suffixes, told
from raekit.data.stream_order import StreamOrder
from raekit.data.tar import Span, index_tar
from raekit.errors import UserError
from raekit.files import write_atomically
from raekit.liveness import sign_of_life

_log = logging.getLogger(__name__)

SIZES = "sizes.json"
"""Where WebDatasets note their sample counts: ``{"web-000.tar": 10000, ...}``."""

_ASKING_THREADS = 16
"""Servers asked, or ends of files read, at once for a fingerprint: nearly all of it is waiting."""

MOST_FETCHES = 20
"""Times that a copy is fetched which another thread or process drops, to make room, before it is open."""
MIN_OPEN = 8
"""Shards held open at least; more where the lanes and the buffer need them."""


class OpenShard:
    """A tar that any thread may read from; it stays readable when its file is deleted.

    Raises:
        UserError: it is cut short, or no tar.
    """

    def __init__(self, path: Path) -> None:
        index = index_tar(path)
        self.keys, self.members = index.keys, index.members
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def read(self, span: Span) -> bytes:
        """The content of a member."""
        return os.pread(self._file, span[1], span[0])


class StreamedShards(Source):
    """WebDataset tars from http(s), s3 or a disk, each read whole in its turn.

    Raises:
        UserError: no such shards, an unreachable server, or fewer shards than lanes.
    """

    class Config(SourceConfig):
        """Where the shards are, and how they are streamed."""

        name: Literal["streamed_shards"] = "streamed_shards"
        shards: tuple[str, ...] = Field(min_length=1)
        """Addresses or paths of tars, each with braces (``{000..120}``, ``{a,b}``), or wildcards where files can be
        listed."""
        image: str | None = None
        """Suffix of the pictures where a sample has several, e.g. ``1.png``; by default any picture's."""
        caption: str | None = None
        """Field of the JSON that holds the captions; by default caption, the ``.txt``, captions, text or prompt."""
        shuffle_buffer: int = Field(10_000, ge=1)
        """Samples that are shuffled together; they lie in the folder of copies, not in memory."""
        lanes: int = Field(1, ge=1)
        """Shards read side by side. With several machines, a multiple of the number of processes: each then fetches
        only the shards of its own lanes, if ``lanes x lane_run`` is the micro-batch size (``train.micro_batch_size``,
        over all processes)."""
        lane_run: int = Field(1, ge=1)
        """Samples in a row from the same lane."""
        shards_ahead: int = Field(4, ge=1)
        """Shards fetched at once, ahead of their turn. Never a result."""
        cache: Path = Path("~/.cache/raekit/shards")
        """Folder of the copies of remote shards; processes on a machine share it. Never a result."""
        cache_gigabytes: float = Field(20, gt=0)
        """What the copies may take on the disk; those used longest ago go first. Never a result."""
        retry_minutes: float = Field(5, ge=0)
        """How long a server that fails is asked again before the run stops; less than ``train.stuck_after_seconds``.
        Never a result."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._retry_seconds = 60 * config.retry_minutes
        self.addresses = expand_addresses(config.shards, self._retry_seconds)
        if config.lanes > len(self.addresses):
            raise UserError(f"lanes: {config.lanes}, but there are only {len(self.addresses)} shards; lower it")
        self._files = RemoteFiles(config.cache, config.cache_gigabytes, self._retry_seconds)
        self.left_out: dict[str, str] = {}
        self.counts = self._count()
        self._firsts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.counts)])
        if not self._firsts[-1]:
            why = next(iter(self.left_out.values()), "they are empty")
            raise UserError(f"shards {config.shards[0]}: hold no samples ({why}); give other shards")
        self._suffixes = picture_suffixes(config.image)
        per_window = 2 + config.shuffle_buffer // max(int(np.mean(self.counts)), 1)
        keep = min(max(MIN_OPEN, 2 * config.lanes * per_window), len(self.addresses) + 1)
        self._open = ReadAhead(self._open_shard, config.shards_ahead, keep)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> Sample:
        number = int(np.searchsorted(self._firsts, index, side="right")) - 1
        shard = self._open.get(number)
        if isinstance(shard, str):
            raise BadSample(shard, skip=self.counts[number])
        inside = index - int(self._firsts[number])
        members, key = shard.members[inside], shard.keys[inside]
        name = f"{self.addresses[number]}:{key}"
        picture = picture_of(members, self._suffixes)
        if picture is None:
            raise BadSample(f"{name}: holds no picture, but {', '.join(members)}")
        contents = {kind: self._read(shard, members[kind], number) for kind in SIDECARS if kind in members}
        caption, metadata = told(contents, name, self.config.caption)
        image = decode_image(self._read(shard, picture, number), name)
        return Sample(image, caption, self.key_of(index), metadata)

    def order(self, seed: Sequence[int]) -> StreamOrder:  # type: ignore[override]
        cfg = self.config
        return StreamOrder(self.counts, seed, cfg.shuffle_buffer, cfg.lanes, cfg.lane_run, self._expect_shards)

    def key_of(self, index: int) -> str:
        number = int(np.searchsorted(self._firsts, index, side="right")) - 1
        shard, stem = self._open.get(number), Path(_name(self.addresses[number])).stem
        return stem if isinstance(shard, str) else f"{stem}/{shard.keys[index - int(self._firsts[number])]}"

    def expect(self, indices: range) -> None:
        if indices:
            first, last = np.searchsorted(self._firsts, [indices[0], indices[-1]], side="right") - 1
            self._expect_shards(range(int(first), int(last) + 1))

    def fingerprint(self) -> str:
        """Of names, counts and what tells the content of each shard: a question to the server for each remote one."""
        with ThreadPoolExecutor(_ASKING_THREADS) as threads:
            contents = list(threads.map(self._content_of, self.addresses))
        rows = zip(map(_name, self.addresses), self.counts, contents, strict=True)
        return fingerprint_of([self.config.image, self.config.caption, *rows])

    def order_fingerprint(self) -> str:
        cfg, names = self.config, map(_name, self.addresses)
        return fingerprint_of([cfg.shuffle_buffer, cfg.lanes, cfg.lane_run, *zip(names, self.counts, strict=True)])

    def _content_of(self, address: str) -> str:
        if is_remote(address):
            return identity_of(address, self._retry_seconds)
        return read_patiently(f"shard {address}", lambda: sketch_of(self._files.fetch(address)), self._retry_seconds)

    def _expect_shards(self, numbers: Iterable[int]) -> None:
        """Those that hold nothing of use are never opened."""
        self._open.expect(number for number in numbers if self.counts[number])

    def _count(self) -> list[int]:
        """Samples of each shard, from wherever they are known."""
        folders = dict.fromkeys(map(_folder, self.addresses))
        stated = {folder: _stated(folder, self._retry_seconds) for folder in folders}
        known = [stated[_folder(address)].get(_name(address)) for address in self.addresses]
        unknown = [address for address, count in zip(self.addresses, known, strict=True) if count is None]
        if unread := [address for address in unknown if is_remote(address) and not self._note_of(address).is_file()]:
            _log.warning(
                "%d of %d shards have no stated number of samples, so each of them is fetched whole before the first "
                "step, on every machine; a %s beside them avoids it: {%s: 10000, ...}",
                len(unread), len(self.addresses), SIZES, json.dumps(_name(unread[0])),
            )  # fmt: skip
        with ThreadPoolExecutor(self.config.shards_ahead) as threads:
            found = dict(zip(unknown, threads.map(self._noted_count, unknown), strict=True))
        for address, count in found.items():
            if isinstance(count, _Broken):
                self.left_out[Path(_name(address)).stem] = str(count)
                _log.warning("passed over as a whole: %s", count)
        counted = {address: 0 if isinstance(count, _Broken) else count for address, count in found.items()}
        return [counted[a] if count is None else count for a, count in zip(self.addresses, known, strict=True)]

    def _note_of(self, address: str) -> Path:
        """Where the number of a remote shard's samples is noted once it was read through."""
        copy = self._files.place_of(address)
        return copy.with_name(copy.name + ".samples")

    def _noted_count(self, address: str) -> int | _Broken:
        """The number of samples that was noted when a shard was first read through, which may be now."""
        note = self._note_of(address) if is_remote(address) else None
        if note is not None and note.is_file():
            return int(note.read_text())
        try:
            count = len(self._whole(address).keys)
        except _Broken as error:
            return error
        finally:
            sign_of_life()
        if note is not None:
            write_atomically(note, f"{count}\n".encode())
        return count

    def _read(self, shard: OpenShard, span: Span, number: int) -> bytes:
        """The content of a member; of a disk that fails, as soon as it does no longer."""
        return read_patiently(f"shard {self.addresses[number]}", lambda: shard.read(span), self._retry_seconds)

    def _open_shard(self, number: int) -> OpenShard | str:
        """A shard, or why it cannot be read."""
        address = self.addresses[number]
        try:
            shard = self._whole(address)
        except _Broken as error:
            _log.warning("passed over as a whole: %s", error)
            return str(error)
        if len(shard.keys) != self.counts[number]:
            raise UserError(
                f"shard {address}: holds {len(shard.keys)} samples, not {self.counts[number]} as stated beside it or "
                f"noted in {str(self._note_of(address))!r}; correct that, or positions would shift"
            )
        return shard

    def _whole(self, address: str) -> OpenShard:
        """A shard, fetched once more where its copy is broken or cannot be read: damaged on its way, or since then.

        Raises:
            _Broken: it is broken where it comes from.
            UserError: the disk fails, and goes on failing.
        """
        try:
            return self._opened(address)
        except (_Broken, OSError):
            return read_patiently(f"shard {address}", lambda: self._opened_anew(address), self._retry_seconds)

    def _opened_anew(self, address: str) -> OpenShard:
        self._files.forget(address)
        return self._opened(address)

    def _opened(self, address: str) -> OpenShard:
        """Raises :class:`_Broken`; OSError where a disk fails; UserError where a file is not there, or not for long."""
        for _ in range(MOST_FETCHES):
            path = self._files.fetch(address)
            try:
                return OpenShard(path)
            except (FileNotFoundError, UserError) as error:
                if path.is_file():
                    raise _Broken(str(error)) from None
                if not is_remote(address):
                    raise
        raise UserError(
            f"cache_gigabytes: {self.config.cache_gigabytes:g}: the copy of {address} was dropped {MOST_FETCHES} times "
            "before it could be opened, to make room for those that are fetched beside it; give the copies more room"
        )


class _Broken(Exception):
    """The content of a shard is no whole tar."""


def _folder(address: str) -> str:
    return without_query(address).rpartition("/")[0]


def _name(address: str) -> str:
    """The name of a shard's file."""
    return without_query(address).rpartition("/")[2]


def _stated(folder: str, retry_seconds: float) -> dict[str, int]:
    """Samples by the name of the shard, as a manifest or ``sizes.json`` in their folder says; empty without one.

    Raises:
        UserError: the file is there and is no such table.
    """
    place = f"{folder}/" if folder else ""
    for name in (MANIFEST, SIZES):
        content = read_if_there(place + name, retry_seconds)
        if content is None:
            continue
        try:
            record = json.loads(content)
            rows: Iterable[tuple[str, object]] = record.items()
            if name == MANIFEST:
                rows = [(shard["file"], shard["samples"]) for shard in record["shards"]]
            return {file: int(str(count)) for file, count in rows}
        except (ValueError, LookupError, TypeError, AttributeError):
            if name == MANIFEST:  # another program's
                continue
            raise UserError(
                f'{place}{name}: no table of samples by shard; write {{"web-000.tar": 1000, ...}}'
            ) from None
    return {}
