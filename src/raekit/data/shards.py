"""WebDataset tars as a map-style source: any sample in any order, straight from the tar.

In: a tar, a folder of tars or a pattern such as ``web-{000000..000120}.tar``; in each, pictures with ``.json``,
``.txt`` or ``.cls`` beside them. Out: :class:`Sample` by index. What :mod:`raekit.data.builder` writes is read here,
and so is any other WebDataset: captions are found under the usual names, in the JSON or in the text.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raekit.data import DATASETS
from raekit.data.builder import Manifest
from raekit.data.decode import VECTOR_SUFFIXES, decode_image
from raekit.data.fingerprint import fingerprint_of, sketch_of
from raekit.data.patterns import expand
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.data.sidecars import SIDECARS, picture_of, picture_suffixes, told
from raekit.data.tar import Members, TarIndex, index_tar
from raekit.errors import UserError

_log = logging.getLogger(__name__)

_INDEXING_THREADS = 8
"""Tars indexed at once: on a network disk the headers of a tar take seconds, nearly all of it waiting."""


class Shards(Source):
    """WebDataset tars, read at random access by an index.

    Raises:
        UserError: no tar there, a tar is cut short, a build is unfinished, or the split is empty.
    """

    class Config(SourceConfig):
        """Where the shards are and which of their samples to read."""

        name: Literal["shards"] = "shards"
        path: Path
        """A ``.tar``, a folder that holds some, or a pattern: ``web-{000000..000120}.tar``, ``{a,b}/*.tar``."""
        split: str | None = None
        """Read only samples of this split; by default all."""
        where: dict[str, tuple[str, ...]] = {}
        """Read only samples whose metadata has one of these values, e.g. ``{group: [food & drink]}``."""
        image: str | None = None
        """Suffix of the pictures where a sample has several, e.g. ``1.png``; by default any picture's."""
        caption: str | None = None
        """Field of the JSON that holds the captions; by default caption, the ``.txt``, captions, text or prompt."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = config.path.expanduser()
        self.paths, is_split = _find_tars(self.path, config.split)
        with ThreadPoolExecutor(_INDEXING_THREADS) as threads:
            indices = list(threads.map(index_tar, self.paths))
        self._take_after(Manifest.load(self.path) if self.path.is_dir() else None)
        suffixes = picture_suffixes(config.image)
        self.keys: list[str] = []
        rows: list[list[int]] = []
        for number, index in enumerate(indices):
            for key, members in zip(index.keys, index.members, strict=True):
                if row := _row(number, members, suffixes):
                    rows.append(row)
                    self.keys.append(key)
        _report_left_out(self.path, indices, suffixes)
        # One row a sample: shard, then offset and size of the picture and of each kind of sidecar (-1: absent).
        self._rows: NDArray[np.int64] = np.array(rows, np.int64).reshape(-1, 3 + 2 * len(SIDECARS))
        if len(set(self.keys)) < len(self.keys):  # numbered anew in each tar
            self.keys = [f"{self.paths[row[0]].stem}/{key}" for row, key in zip(rows, self.keys, strict=True)]
        if config.split is not None and not is_split:
            self._keep("split", (config.split,))
        for field, values in config.where.items():
            self._keep(field, values)
        if not self.keys:
            wanted = f" of split {config.split!r}" if config.split else ""
            wanted += "".join(f" with {field} in {list(values)}" for field, values in config.where.items())
            raise UserError(f"path {self.path}: no pictures{wanted} there; {self._known_splits()}")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        image = decode_image(self._read(self._rows[index], 0), self._name(index))
        metadata = self.metadata(index)
        caption = str(metadata.pop("caption", ""))
        return Sample(image, caption, self.keys[index], metadata)

    def key_of(self, index: int) -> str:
        return self.keys[index]

    def fingerprint(self) -> str:
        files = [(path.name, sketch_of(path)) for path in self.paths]
        return fingerprint_of([self.config.image, self.config.caption, *files, *self.keys, self._rows.tolist()])

    def metadata(self, index: int) -> dict[str, Any]:
        """Caption and everything else about a sample, without its pixels.

        Raises:
            BadSample: the JSON beside the picture is broken.
        """
        row = self._rows[index]
        there = [(number, kind) for number, kind in enumerate(SIDECARS, start=1) if row[1 + 2 * number] >= 0]
        contents = {kind: self._read(row, number) for number, kind in there}
        caption, metadata = told(contents, self._name(index), self.config.caption)
        return {"caption": caption, **metadata}

    def _name(self, index: int) -> str:
        return f"{self.paths[self._rows[index, 0]]}:{self.keys[index]}"

    def _read(self, row: NDArray[np.int64], kind: int) -> bytes:
        """The content of the picture (0) or of a sidecar; opened anew, so that any thread or process may read."""
        path: Path = self.paths[row[0]]
        start, size = int(row[1 + 2 * kind]), int(row[2 + 2 * kind])
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def _take_after(self, manifest: Manifest | None) -> None:
        """Words and scenes that were written down may be cut and flipped no more than those made on the fly."""
        if manifest is not None and manifest.source in DATASETS:
            maker = DATASETS[manifest.source]
            self.is_mirrorable, self.is_croppable = maker.is_mirrorable, maker.is_croppable

    def _keep(self, field: str, values: tuple[str, ...]) -> None:
        kept = [index for index in range(len(self.keys)) if self._field_of(index, field) in values]
        self._rows, self.keys = self._rows[kept], [self.keys[index] for index in kept]

    def _field_of(self, index: int, field: str) -> Any:
        try:
            return self.metadata(index).get(field)
        except BadSample as error:
            _log.warning("left out, as its %s cannot be read: %s", field, error)
            return None

    def _known_splits(self) -> str:
        manifest = Manifest.load(self.path) if self.path.is_dir() else None
        known = ", ".join(sorted(manifest.splits)) if manifest else "none is stated"
        return f"splits there: {known}"


def _find_tars(path: Path, split: str | None) -> tuple[list[Path], bool]:
    """The shards to read, and whether they hold nothing but ``split``, which a manifest can tell."""
    if not path.is_dir():
        return expand(path), False
    manifest = Manifest.load(path)
    if manifest is None:
        found = sorted(path.glob("*.tar"))
        if not found:
            raise UserError(f"path {path}: holds no .tar files; `raekit prepare data` makes some")
        return found, False
    if not manifest.is_complete:
        raise UserError(f"path {path}: these shards are not finished; run the same `raekit prepare data` again")
    return [path / shard.file for shard in manifest.shards if split in (None, shard.split) and shard.samples], True


def _row(number: int, members: Members, suffixes: tuple[str, ...]) -> list[int] | None:
    """Where one sample's picture and sidecars lie, or nothing where there is no picture."""
    picture = picture_of(members, suffixes)
    if picture is None:
        return None
    spans = [picture, *(members.get(sidecar, (-1, -1)) for sidecar in SIDECARS)]
    return [number, *(value for span in spans for value in span)]


def _report_left_out(path: Path, indices: list[TarIndex], suffixes: tuple[str, ...]) -> None:
    """Say how many samples have no picture, and what they have instead."""
    every = [members for index in indices for members in index.members]
    without = [members for members in every if not set(members) & set(suffixes)]
    if not without:
        return
    kinds = Counter(suffix for members in without for suffix in members if suffix not in SIDECARS)
    shown = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(3)) or "nothing but text"
    drawings = " (render the vector drawings first)" if set(kinds) & set(VECTOR_SUFFIXES) else ""
    counts = f"{len(without)} of {len(every)}"
    _log.warning("%s: %s samples hold no picture and are left out: %s%s", path, counts, shown, drawings)
