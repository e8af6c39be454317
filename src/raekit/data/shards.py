"""WebDataset tars as a map-style source: any sample in any order, straight from the tar.

In: a tar, or a folder of tars, of ``.webp``/``.png``/``.jpg`` with ``.json``, ``.txt`` or ``.cls`` beside each. Out:
:class:`Sample` by index. What :mod:`raekit.data.builder` writes is read here, and so is any other WebDataset.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raekit.data.builder import Manifest
from raekit.data.decode import IMAGE_SUFFIXES, decode_image
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.data.tar import Members, index_tar
from raekit.errors import UserError

_log = logging.getLogger(__name__)

_SIDECARS = (".json", ".txt", ".cls")
_CAPTION_KEYS = ("caption", "text", "prompt")


class Shards(Source):
    """WebDataset tars, read at random access by an index.

    Raises:
        UserError: no tar there, a tar is cut short, a build is unfinished, or the split is empty.
    """

    class Config(SourceConfig):
        """Where the shards are and which of their samples to read."""

        name: Literal["shards"] = "shards"
        path: Path
        """A ``.tar``, or a folder that holds some."""
        split: str | None = None
        """Read only samples of this split; by default all."""
        where: dict[str, tuple[str, ...]] = {}
        """Read only samples whose metadata has one of these values, e.g. ``{group: [food & drink]}``."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = config.path.expanduser()
        self.paths, is_split = _find_tars(self.path, config.split)
        self.keys: list[str] = []
        rows: list[list[int]] = []
        for number, path in enumerate(self.paths):
            index = index_tar(path)
            for key, members in zip(index.keys, index.members, strict=True):
                if row := _row(number, members):
                    rows.append(row)
                    self.keys.append(key)
        # One row a sample: shard, then offset and size of the picture and of each kind of sidecar (-1: absent).
        self._rows: NDArray[np.int64] = np.array(rows, np.int64).reshape(-1, 3 + 2 * len(_SIDECARS))
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
        row, name = self._rows[index], f"{self.paths[self._rows[index, 0]]}:{self.keys[index]}"
        image = decode_image(self._read(row, 0), name)
        metadata = dict(self.metadata(index))
        caption = str(metadata.pop("caption", ""))
        return Sample(image, caption, self.keys[index], metadata)

    def metadata(self, index: int) -> dict[str, Any]:
        """Caption and everything else about a sample, without its pixels.

        Raises:
            BadSample: the JSON beside the picture is broken.
        """
        row = self._rows[index]
        try:
            record = json.loads(self._read(row, 1)) if row[3] >= 0 else {}
            if row[7] >= 0:
                record.setdefault("label", int(self._read(row, 3)))
        except ValueError as error:
            raise BadSample(f"{self.paths[row[0]]}:{self.keys[index]}: broken metadata ({error})") from None
        if "caption" not in record:
            text = self._read(row, 2).decode(errors="replace").strip() if row[5] >= 0 else None
            stated = (record[key] for key in _CAPTION_KEYS if isinstance(record.get(key), str))
            record["caption"] = text if text is not None else next(stated, "")
        return dict(record)

    def _read(self, row: NDArray[np.int64], kind: int) -> bytes:
        """The content of the picture (0) or of a sidecar; opened anew, so that any thread or process may read."""
        path: Path = self.paths[row[0]]
        start, size = int(row[1 + 2 * kind]), int(row[2 + 2 * kind])
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

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
        return [path], False
    manifest = Manifest.load(path)
    if manifest is None:
        found = sorted(path.glob("*.tar"))
        if not found:
            raise UserError(f"path {path}: holds no .tar files; `raekit prepare data` makes some")
        return found, False
    if not manifest.is_complete:
        raise UserError(f"path {path}: these shards are not finished; run the same `raekit prepare data` again")
    return [path / shard.file for shard in manifest.shards if split in (None, shard.split) and shard.samples], True


def _row(number: int, members: Members) -> list[int] | None:
    """Where one sample's picture and sidecars lie, or nothing where there is no picture."""
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if suffix in members), None)
    if suffix is None:
        return None
    spans = [members[suffix], *(members.get(sidecar, (-1, -1)) for sidecar in _SIDECARS)]
    return [number, *(value for span in spans for value in span)]
