"""Building a data set into shards: resumable, checksummed, deduplicated.

In: parts (one future shard each, with the work items it is made from) and a function that draws one item. Out: a
folder of WebDataset tars with ``manifest.json``. Each finished shard is entered in the manifest with its SHA-256; a
build that is started again keeps the shards whose bytes still match and draws only the others. A shard is written
under another name and renamed, so what can be seen is always whole.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raekit.data.tar import TarWriter, index_tar
from raekit.errors import UserError
from raekit.files import sha256, write_atomically

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Drawn:
    """One encoded sample: its members by suffix, and a digest of its pixels by which copies are found."""

    key: str
    image: bytes
    metadata: Mapping[str, Any]
    digest: str
    suffix: str = ".webp"


@dataclass(frozen=True)
class Dropped:
    """An item that gave no sample, and the word under which the manifest counts it."""

    reason: str


@dataclass(frozen=True)
class Part:
    """One shard to be: its split, and the work items it is drawn from."""

    file: str
    split: str
    items: Sequence[Any]


@dataclass
class ShardRecord:
    """A finished shard, as the manifest knows it."""

    file: str
    split: str
    sha256: str
    samples: int
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass
class Manifest:
    """What a folder of shards holds: how it was made, its shards, and whether it is complete."""

    source: str
    settings: dict[str, Any]
    shards: list[ShardRecord] = field(default_factory=list)
    is_complete: bool = False

    @property
    def splits(self) -> dict[str, int]:
        """Samples per split."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            counts[shard.split] += shard.samples
        return dict(counts)

    @property
    def dropped(self) -> dict[str, int]:
        """Items that gave no sample, by reason."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            counts.update(shard.dropped)
        return dict(counts)

    def save(self, folder: Path) -> None:
        """Write ``manifest.json`` atomically."""
        record = {**asdict(self), "splits": self.splits, "dropped": self.dropped}
        write_atomically(folder / MANIFEST, (json.dumps(record, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, or nothing where there is none, or another program's."""
        path = folder / MANIFEST
        record = json.loads(path.read_text()) if path.is_file() else {}
        if not {"source", "settings", "shards", "is_complete"} <= set(record):
            return None
        shards = [ShardRecord(**row) for row in record["shards"]]
        return cls(record["source"], record["settings"], shards, record["is_complete"])


def split_into_parts(items: Mapping[str, Sequence[Any]], samples_per_shard: int) -> list[Part]:
    """Cut each split's items into shards named ``<split>-000000.tar``, in the order given."""
    parts = []
    for split, rows in items.items():
        for number, start in enumerate(range(0, len(rows), samples_per_shard)):
            parts.append(Part(f"{split}-{number:06d}.tar", split, rows[start : start + samples_per_shard]))
    return parts


def build_shards(
    folder: Path,
    manifest: Manifest,
    parts: Sequence[Part],
    draw: Callable[[Any], Drawn | Dropped],
    workers: int = 1,
) -> Manifest:
    """Draw every part that is not already there, one shard after the other.

    Args:
        folder: where the shards go; made if missing.
        manifest: source name and settings of this build (its shard list is ignored).
        parts: the shards to be, in order; of two equal pictures the one in the earlier part is kept.
        draw: a picklable function from one item to a sample.
        workers: drawing processes; 1 draws in this process.

    Raises:
        UserError: the folder already holds another source, or the same with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = _finished_shards(folder, manifest)
    manifest.shards, manifest.is_complete = [], False
    seen: set[str] = set()
    with _drawing(draw, workers) as run, _progress() as progress:
        bar = progress.add_task(f"preparing {manifest.source}", total=sum(len(part.items) for part in parts))
        for part in parts:
            record = finished.get(part.file)
            if record is None:
                record = _write_part(folder, part, run(part.items), seen, lambda: progress.advance(bar))
            else:
                seen.update(_digests(folder / part.file))
                progress.advance(bar, len(part.items))
            manifest.shards.append(record)
            manifest.save(folder)
    manifest.is_complete = True
    manifest.save(folder)
    return manifest


def _finished_shards(folder: Path, wanted: Manifest) -> dict[str, ShardRecord]:
    """The shards of an earlier run of this very build whose bytes are still what they were."""
    held = Manifest.load(folder)
    if held is None:
        return {}
    if (held.source, held.settings) != (wanted.source, json.loads(json.dumps(wanted.settings))):
        keys = sorted({*held.settings, *wanted.settings})
        changed = ", ".join(key for key in keys if held.settings.get(key) != wanted.settings.get(key))
        raise UserError(
            f"out {folder}: holds {held.source} shards made with other settings ({changed or 'source'}); "
            "give an empty folder or delete this one"
        )
    whole = [s for s in held.shards if (folder / s.file).is_file() and sha256(folder / s.file) == s.sha256]
    return {shard.file: shard for shard in whole}


def _write_part(
    folder: Path, part: Part, results: Iterable[Drawn | Dropped], seen: set[str], advance: Callable[[], None]
) -> ShardRecord:
    dropped: Counter[str] = Counter()
    path = folder / part.file
    with TarWriter(path) as tar:
        for result in results:
            advance()
            if isinstance(result, Dropped):
                dropped[result.reason] += 1
            elif result.digest in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(result.digest)
                metadata = {**result.metadata, "digest": result.digest}
                text = json.dumps(metadata, ensure_ascii=False).encode()
                tar.add(result.key, {result.suffix: result.image, ".json": text})
    index_tar(path)
    return ShardRecord(part.file, part.split, sha256(path), tar.num_samples, dict(dropped))


def _digests(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for members in index_tar(path).members:
            start, size = members[".json"]
            file.seek(start)
            yield json.loads(file.read(size))["digest"]


@contextmanager
def _drawing(
    draw: Callable[[Any], Drawn | Dropped], workers: int
) -> Iterator[Callable[[Sequence[Any]], Iterable[Drawn | Dropped]]]:
    """A pool of drawing processes, or this process; results come back in the order of the items."""
    if workers == 1:
        yield lambda items: map(draw, items)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield lambda items: pool.imap(draw, items, chunksize=8)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True)
