"""A data set of the Hugging Face ``datasets`` package as a stream: nothing is downloaded ahead of its turn.

In: the name of a data set on the hub, or a folder of Parquet or Arrow files. Out: :class:`Sample` by index, without
end: visit ``n`` of the source. The rows are read front to back and begin anew at their end; they are shuffled within
blocks of ``shuffle_buffer`` rows, the order of a block following from (seed, block), so that the sample at a position
does not depend on what was read before it. *Lanes* share out the files of the data set as in ``stream_order.py``.

To go on in the middle without reading everything again, the reader drops a bookmark now and then: the state of the
``datasets`` stream at a row, in a folder that may be lost at no other cost than time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raekit.data.fingerprint import fingerprint_of
from raekit.data.huggingface import TableConfig, load_table, narrowed, sample_of
from raekit.data.readahead import ReadAhead
from raekit.data.sample import Endless, Sample
from raekit.errors import UserError
from raekit.files import write_atomically

_log = logging.getLogger(__name__)

Row = dict[str, Any]

BOOKMARK_ROWS = 10_000
"""Rows between bookmarks, at least a block."""

ORDER_STREAM = 5
"""Keeps the chance of blocks apart from other uses of the same seed."""


class HuggingFaceStream(Endless):
    """A Hugging Face data set, streamed from the hub or from a disk.

    Attributes:
        classes: names of classes, by label, where the data set states them.

    Raises:
        UserError: as :class:`~raekit.data.huggingface.HuggingFace`; or it has fewer files than there are lanes.
    """

    class Config(TableConfig):
        """Which data set, which of its columns, and how it is streamed."""

        name: Literal["huggingface_stream"] = "huggingface_stream"
        seed: int = 0
        """Of the order within blocks."""
        shuffle_buffer: int = Field(1000, ge=1)
        """Rows that are shuffled together; three such blocks of encoded pictures lie in memory for each lane."""
        lanes: int = Field(1, ge=1)
        """Streams side by side, each over its share of the files; at most as many as there are files."""
        lane_run: int = Field(1, ge=1)
        """Samples in a row from the same lane."""
        bookmarks: Path = Path("~/.cache/raekit/bookmarks")
        """Folder of the bookmarks. Never a result."""

    def __init__(self, config: Config) -> None:
        self.config = config
        table, self.classes = narrowed(load_table(config, is_streamed=True), config)
        if config.lanes > table.num_shards:
            raise UserError(f"lanes: {config.lanes}, but {config.path} has only {table.num_shards} files; lower it")
        self._order = lru_cache(maxsize=2 * config.lanes + 2)(self._permutation)
        marks = config.bookmarks.expanduser() / _digest(config)
        self._lanes = [
            _Lane(
                table.shard(num_shards=config.lanes, index=lane) if config.lanes > 1 else table,
                config.shuffle_buffer,
                marks / f"lane-{lane:03d}",
            )
            for lane in range(config.lanes)
        ]

    @property
    def is_drawn(self) -> bool:
        return False

    def __getitem__(self, index: int) -> Sample:
        lane, number = self._place(index)
        row = dict(self._lanes[lane].row(number))
        name = f"{self.config.path}[{self.config.split}] row {self.key_of(index)}"
        return sample_of(row, self.config, self.classes, name, self.key_of(index))

    def key_of(self, index: int) -> str:
        """The number of the row in its lane, counted on from one round through the data to the next."""
        lane, number = self._place(index)
        return f"{lane}/{number:09d}"

    def _place(self, index: int) -> tuple[int, int]:
        """The lane of a visit, and the row within the lane."""
        cfg = self.config
        turn, inside = divmod(index, cfg.lane_run)
        visit = turn // cfg.lanes * cfg.lane_run + inside
        lane, (block, step) = turn % cfg.lanes, divmod(visit, cfg.shuffle_buffer)
        return lane, block * cfg.shuffle_buffer + int(self._order(lane, block)[step])

    def _permutation(self, lane: int, block: int) -> NDArray[np.int64]:
        cfg = self.config
        return np.random.default_rng([ORDER_STREAM, cfg.seed, lane, block]).permutation(cfg.shuffle_buffer)


def _digest(config: HuggingFaceStream.Config) -> str:
    """What bookmarks hang on: the settings that say which rows come in which order, and the files of a folder."""
    named = config.model_dump(include={"path", "subset", "split", "revision", "image", "caption", "label", "lanes"})
    folder = Path(config.path).expanduser()
    files = sorted((path.name, path.stat().st_size) for path in folder.rglob("*") if path.is_file())
    return fingerprint_of([named, *files])[:16]


class _Lane:
    """Rows of an endless repetition of one stream, in blocks.

    Args:
        table: the stream, an ``IterableDataset``.
        block: rows of a block.
        bookmarks: folder of its bookmarks.
    """

    def __init__(self, table: Any, block: int, bookmarks: Path) -> None:
        self._table, self._block, self._bookmarks = table, block, bookmarks
        # One thread: blocks are read in turn. Three are kept, since threads may read on both sides of the end of one.
        self._blocks = ReadAhead(self._read, threads=1, keep=3)
        self._begin = table.state_dict()
        self._rows: Iterator[Row] = iter(())
        self._next = -1

    def row(self, number: int) -> Row:
        """The row ``number`` of the repetition."""
        block, inside = divmod(number, self._block)
        rows = self._blocks.get(block)
        self._blocks.expect([block + 1])
        return rows[inside]

    def _read(self, block: int) -> list[Row]:
        first = block * self._block
        if first != self._next:
            self._go_to(first)
        self._drop_bookmark(block)
        self._next = -1  # should reading fail, the stream stands nowhere
        rows = list(islice(self._rows, self._block))
        self._next = first + self._block
        return rows

    def _go_to(self, first: int) -> None:
        """Set the stream to a row: from the last bookmark before it, else from the beginning."""
        at, state = self._bookmark_before(first)
        self._rows = self._rounds(state)
        for _ in islice(self._rows, first - at):
            continue

    def _rounds(self, state: Any) -> Iterator[Row]:
        """The rows from a state of the stream on, and from its beginning again and again."""
        self._table.load_state_dict(self._begin if state is None else state)
        may_be_at_its_end = state is not None
        while True:
            is_empty = True
            for row in self._table:
                is_empty = False
                yield row
            if is_empty and not may_be_at_its_end:
                raise UserError("huggingface_stream: the data set holds no rows; give another split or folder")
            may_be_at_its_end = False
            self._table.load_state_dict(self._begin)

    def _drop_bookmark(self, block: int) -> None:
        """Note where the stream stands, ahead of a block."""
        path = self._bookmarks / f"{block * self._block:012d}.json"
        if block and block % max(1, BOOKMARK_ROWS // self._block) == 0 and not path.is_file():
            try:
                write_atomically(path, json.dumps(self._table.state_dict()).encode())
            except UserError as error:
                _log.warning("no bookmark, so that going on will read from the beginning: %s", error)

    def _bookmark_before(self, first: int) -> tuple[int, Any]:
        """The nearest bookmark: its row, and the state of the stream there."""
        there = sorted(int(path.stem) for path in self._bookmarks.glob("[0-9]*.json"))
        for at in reversed([row for row in there if row <= first]):
            try:
                return at, json.loads((self._bookmarks / f"{at:012d}.json").read_text())
            except (OSError, ValueError):
                continue
        return 0, None
