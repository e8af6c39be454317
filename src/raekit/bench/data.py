"""The speed of data: how many pictures a second each kind of storage gives, and how long a step waits for them.

In: a number of pictures to draw and their size. Out: a :class:`DataReport` for each kind: a folder of JPEGs, tar shards
read at random, the same shards fetched over HTTP from a server on this machine, and cached latents. The pictures are
smooth noise of a photograph's size in bytes; everything lies in a temporary folder, so the disk's own cache is warm.

How long a step waits is measured with a stand-in for an accelerator, which takes a given time for each batch and leaves
the processor alone.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from raekit.data.cache import TensorCache
from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.loader import Loader
from raekit.data.readahead import in_order
from raekit.data.storage import StoredPrecision
from raekit.data.tar import TarWriter
from raekit.errors import UserError
from raekit.training.meter import Meter

NUM_SHARDS = 4
NUM_DRAWN = 32
"""Different pictures; the others are copies of them under other names."""
LATENT = (768, 16, 16)
"""Of DINOv2-B at 224 or 256 pixels."""

Read = Callable[[], Iterator[Any]]


@dataclass(frozen=True)
class DataTask:
    """What is read.

    Attributes:
        images: pictures in each kind of storage.
        side: of the stored pictures, pixels.
        image_size: of the pictures in a batch, pixels.
        batch: pictures at once.
        threads: that read.
        step_seconds: that the stand-in for an accelerator takes for a batch.

    Raises:
        UserError: fewer pictures than three batches.
    """

    images: int = 512
    side: int = 384
    image_size: int = 256
    batch: int = 32
    threads: int = 2
    step_seconds: float = 0.25

    def __post_init__(self) -> None:
        if self.images < 3 * self.batch:
            raise UserError(f"--images: {self.images}; give at least three batches of {self.batch}")


@dataclass(frozen=True)
class DataReport:
    """Speed of one kind of storage.

    Attributes:
        name: of the kind.
        task: what was read.
        images_per_second: with nothing else to do.
        cpu_seconds: of the processor for an image, all threads together; unlike the speed it hardly depends on what
            else the machine does.
        data_wait: share of the time that the stand-in waited for its next batch.
        bytes_per_image: on the disk.
    """

    name: str
    task: DataTask
    images_per_second: float
    cpu_seconds: float
    data_wait: float
    bytes_per_image: float

    def rows(self) -> list[tuple[str, str]]:
        """For a terminal."""
        pace = self.task.batch / self.task.step_seconds
        return [
            ("images/s", f"{self.images_per_second:.0f} with {self.task.threads} threads"),
            ("processor", f"{self.cpu_seconds * 1e3:.2f} ms an image, {1 / self.cpu_seconds:.0f} images/s of a core"),
            ("waiting", f"{self.data_wait:.1%} of a step that could take {pace:.0f} images/s"),
            ("on disk", f"{self.bytes_per_image / 1e3:.1f} kB an image"),
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return asdict(self)


def bench_data(task: DataTask, precisions: Sequence[StoredPrecision] = ("fp32", "bf16", "int8")) -> list[DataReport]:
    """Time every kind of storage, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = _write_pictures(root, task)
        reports = [
            _measure(
                "folder of JPEGs", task, lambda: _batches({"name": "folder", "path": root / "folder"}, task), size
            ),
            _measure("tar shards", task, lambda: _batches({"name": "shards", "path": root / "shards"}, task), size),
        ]
        with _served(root / "shards") as address:
            reports.append(_measure("tar shards over HTTP", task, lambda: _streamed(address, root, task), size))
        for precision in precisions:
            cache = _cache_of(root, precision, task.images)
            read = partial(_rows, cache, task)
            reports.append(_measure(f"cached latents, {precision}", task, read, cache.num_bytes / task.images))
        return reports


def _measure(name: str, task: DataTask, read: Read, bytes_per_image: float) -> DataReport:
    """One round alone; one round with the stand-in, which is not counted as waiting for its first batch."""
    num_batches = task.images // task.batch
    batches = islice(read(), num_batches)
    start, begin = time.perf_counter(), time.process_time()
    count = sum(1 for _ in batches) * task.batch
    speed, cpu = count / (time.perf_counter() - start), (time.process_time() - begin) / count
    batches = islice(read(), num_batches)
    next(batches)
    meter = Meter()
    for _ in meter.waiting(batches):
        time.sleep(task.step_seconds)
        meter.add({}, task.batch)
    return DataReport(name, task, speed, cpu, meter.read()["data_wait"], bytes_per_image)


def _batches(source: dict[str, Any], task: DataTask) -> Iterator[Any]:
    settings = DataConfig.model_validate({"mixture": [source], "image_size": task.image_size})
    reading = Loader.Config(threads=task.threads)
    return iter(Loader(build_dataset(settings), task.batch, settings=reading))


def _streamed(address: str, root: Path, task: DataTask) -> Iterator[Any]:
    """A first visit: no shard has been fetched."""
    shards = f"{address}/shard-{{0..{NUM_SHARDS - 1}}}.tar"
    copies = tempfile.mkdtemp(dir=root)
    return _batches({"name": "streamed_shards", "shards": [shards], "cache": copies}, task)


def _rows(cache: TensorCache, task: DataTask) -> Iterator[Any]:
    """Batches of latents in a random order, as training reads them."""
    order = np.random.default_rng(0).permutation(cache.num_rows)
    parts = [order[start : start + task.batch].tolist() for start in range(0, len(order), task.batch)]
    return in_order(lambda rows: cache.read(rows)["latent"].float(), parts, task.threads, ahead=4)


def _cache_of(root: Path, precision: StoredPrecision, num_rows: int) -> TensorCache:
    cache = TensorCache(root / "cache", {"bench": "data"}, num_rows, 128, precision)
    generator = torch.Generator().manual_seed(0)
    with cache.filling() as write:
        for rows in cache.missing():
            write(rows, {"latent": torch.randn(len(rows), *LATENT, generator=generator)})
    return cache


def _write_pictures(root: Path, task: DataTask) -> float:
    """The same JPEGs as a folder and as shards; returns their mean size in bytes."""
    drawn = [_jpeg(number, task.side) for number in range(NUM_DRAWN)]
    (root / "folder").mkdir()
    (root / "shards").mkdir()
    for number in range(task.images):
        (root / "folder" / f"{number:06d}.jpg").write_bytes(drawn[number % NUM_DRAWN])
        (root / "folder" / f"{number:06d}.txt").write_text(f"number {number}")
    sizes = {}
    for shard in range(NUM_SHARDS):
        own = range(shard, task.images, NUM_SHARDS)
        sizes[f"shard-{shard}.tar"] = len(own)
        with TarWriter(root / "shards" / f"shard-{shard}.tar") as tar:
            for number in own:
                tar.add(f"{number:06d}", {".jpg": drawn[number % NUM_DRAWN], ".txt": f"number {number}".encode()})
    (root / "shards" / "sizes.json").write_text(json.dumps(sizes))
    return sum(map(len, drawn)) / NUM_DRAWN


def _jpeg(number: int, side: int) -> bytes:
    """Smooth colours with a little grain."""
    generator = np.random.default_rng(number)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    grain = generator.normal(0, 6, (side, side, 3))
    pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class _Quiet(SimpleHTTPRequestHandler):
    """A web server's answers without its log."""

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of a web server of ``folder`` on this machine, in a thread of this process."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
