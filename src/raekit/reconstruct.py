"""Pictures through a latent space and back, by the folder, and on from where an interrupted run stopped.

In: an autoencoder, picture files and folders. Out: a folder with one PNG a picture, ``metrics.jsonl`` (a line each:
PSNR, and what the PNG was made from) and ``metrics.csv`` (the same for a spreadsheet). Lines are added as the work goes
on, and a later run trusts them as far as they still hold: a PNG is not made again if model, picture and PNG are byte
for byte those of its line.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.data.decode import IMAGE_SUFFIXES, VECTOR_SUFFIXES
from raekit.data.picture import read_square
from raekit.data.sample import BadSample, Pixels
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.files import make_writable, sha256, write_atomically
from raekit.image_grid import comparison_sheet, encode_png, enlargement, to_arrays
from raekit.metrics.reconstruction import psnr

LINES_FILE, TABLE_FILE, SHEET_FILE = "metrics.jsonl", "metrics.csv", "sheet.png"
SHEET_ROWS = 32
"""Pictures on the sheet, at most."""
NUM_THREADS = 4
"""Readers and writers of picture files; the network runs meanwhile."""


class Picture(NamedTuple):
    """A file, and the name of its reconstruction below the output folder."""

    path: Path
    output: str


@dataclass(frozen=True)
class Row:
    """A line of ``metrics.jsonl``.

    Attributes:
        picture: path of the original, as it was given.
        output: PNG below the output folder; empty for a picture that could not be read.
        psnr: dB; None for a picture that could not be read.
        error: why it could not.
        picture_sha256: of the original's bytes.
        output_sha256: of the PNG's bytes.
        model: checksum of the autoencoder.
    """

    picture: str
    output: str = ""
    psnr: float | None = None
    error: str = ""
    picture_sha256: str = ""
    output_sha256: str = ""
    model: str = ""


@dataclass(frozen=True)
class Report:
    """What :func:`reconstruct` did.

    Attributes:
        rows: one a picture, in the order given.
        num_kept: how many of them an earlier run had made.
    """

    rows: list[Row]
    num_kept: int

    @property
    def done(self) -> list[Row]:
        """The pictures that have a reconstruction."""
        return [row for row in self.rows if row.psnr is not None]

    @property
    def unreadable(self) -> list[Row]:
        """The pictures that could not be read."""
        return [row for row in self.rows if row.psnr is None]

    @property
    def mean_psnr(self) -> float:
        """Mean over the pictures, dB."""
        return float(np.mean([row.psnr for row in self.done]))


def find_pictures(places: Sequence[Path], out: Path) -> list[Picture]:
    """The pictures of files and folders, and where the reconstruction of each goes.

    A picture of a folder keeps its place below it; with several folders it goes below the name of its own. The output
    folder itself is never searched. Where two would have one name, the later keeps its suffix or gets a number.

    Args:
        places: picture files, and folders that are searched to any depth.
        out: the output folder.

    Raises:
        UserError: a place that is not there, no pictures at all, or a reconstruction that would replace a picture.
    """
    num_folders = sum(place.is_dir() for place in places)
    found: dict[Path, Path] = {}
    for place in places:
        if not place.exists():
            raise UserError(f"images: {str(place)!r}: no such file or folder; give pictures or folders of them")
        if place.resolve() == out.resolve():
            raise UserError(f"out {str(out)!r}: is the folder of the pictures; name another one")
        top = Path(place.resolve().name) if num_folders > 1 else Path()
        for path in _pictures_below(place, out) if place.is_dir() else [place]:
            found.setdefault(path.resolve(), top / path.relative_to(place) if place.is_dir() else Path(path.name))
    if not found:
        names = ", ".join(repr(str(place)) for place in places)
        raise UserError(f"images: no {', '.join(IMAGE_SUFFIXES)} files below {names}; give another folder")
    pictures = [Picture(path, name) for path, name in zip(found, _output_names(found.values()), strict=True)]
    for picture in pictures:
        if (out / picture.output).resolve() in found:
            raise UserError(f"out {str(out)!r}: {picture.output} there is one of the pictures; name another folder")
    return pictures


@torch.no_grad()
def reconstruct(
    autoencoder: Autoencoder,
    pictures: Sequence[Picture],
    out: Path,
    batch_size: int = 16,
    is_overwriting: bool = False,
    progress: Callable[[int], None] = lambda num_done: None,
) -> Report:
    """Encode and decode picture files; what an earlier run of the same made is kept.

    Args:
        autoencoder: any latent space, on the device it is to run on.
        pictures: from :func:`find_pictures`.
        out: folder of the PNGs and of the figures.
        batch_size: pictures at once; changes memory and speed only.
        is_overwriting: make everything again.
        progress: called with the number of pictures that are done.

    Raises:
        UserError: the folder holds another model's reconstructions or cannot be written, or no picture can be read.
    """
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} pictures at once; give at least 1")
    make_writable(out)
    earlier = {} if is_overwriting else _read_rows(out, autoencoder.checksum)
    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(NUM_THREADS) as pool, (out / LINES_FILE).open("w" if is_overwriting else "a") as lines:
        for picture, row in zip(
            pictures, pool.map(lambda p: _kept(earlier.get(p.output), p, out), pictures), strict=True
        ):
            if row is not None:
                rows[picture.output] = row
        num_kept = len(rows)
        missing = [picture for picture in pictures if picture.output not in rows]
        for sources in _read_ahead(pool, missing, autoencoder.output_size, batch_size):
            progress(len(rows))
            for source, row in zip(sources, _redraw(autoencoder, sources, out, pool), strict=True):
                rows[source.picture.output] = row
                lines.write(json.dumps(asdict(row)) + "\n")
            lines.flush()
        progress(len(rows))
    report = Report([rows[picture.output] for picture in pictures], num_kept)
    _write_figures(out, report.rows, [row for name, row in earlier.items() if name not in rows])
    if not report.done:
        first = report.rows[0]
        raise UserError(
            f"images: none of {len(pictures)} can be read, e.g. {first.error}; give PNG, JPEG or WebP files"
        )
    return report


def write_sheet(report: Report, out: Path, size: int) -> Path:
    """``sheet.png``: original, reconstruction and difference of the first :data:`SHEET_ROWS` pictures, a row each.

    Args:
        report: of :func:`reconstruct`.
        out: its output folder.
        size: side of a reconstruction, pixels.
    """
    shown = report.done[:SHEET_ROWS]
    images = to_float(torch.stack([read_square(row.picture, size) for row in shown]))
    redrawn = to_float(torch.stack([read_square(out / row.output, size) for row in shown]))
    captions = [f"{Path(row.picture).name}  {row.psnr:.1f} dB" for row in shown]
    write_atomically(out / SHEET_FILE, encode_png(comparison_sheet(images, redrawn, captions, enlargement(size))))
    return out / SHEET_FILE


class _Source(NamedTuple):
    """A picture that was read: uint8 ``[3,S,S]``, or why there is none."""

    picture: Picture
    image: Tensor | None
    sha256: str = ""
    error: str = ""


def _pictures_below(folder: Path, out: Path) -> Iterator[Path]:
    """Sorted; drawings without pixels are among them, so that they are listed and not passed over."""
    ours = out.resolve()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if (Path(place) / name).resolve() != ours)
        yield from (Path(place) / n for n in sorted(names) if n.lower().endswith(IMAGE_SUFFIXES + VECTOR_SUFFIXES))


def _output_names(places: Iterable[Path]) -> list[str]:
    """PNG names, each different also where the file system does not tell capitals apart."""
    taken, names = {SHEET_FILE}, []
    for place in places:
        stem = place.with_suffix("").as_posix()
        candidates = [f"{stem}.png", f"{place.as_posix()}.png"]
        number = 2
        while (name := candidates.pop(0)).casefold() in taken:
            candidates.append(f"{stem}-{number}.png")
            number += 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _read_ahead(
    pool: ThreadPoolExecutor, pictures: Sequence[Picture], size: int, batch_size: int
) -> Iterator[list[_Source]]:
    """Batches of pictures; the next one is being read while a batch is worked on."""
    starts = range(0, len(pictures), batch_size)
    ahead = None
    for start in starts:
        batch = [pool.submit(_read, picture, size) for picture in pictures[start : start + batch_size]]
        if ahead is not None:
            yield [future.result() for future in ahead]
        ahead = batch
    if ahead is not None:
        yield [future.result() for future in ahead]


def _read(picture: Picture, size: int) -> _Source:
    try:
        return _Source(picture, read_square(picture.path, size), sha256(picture.path))
    except (BadSample, OSError) as error:
        return _Source(picture, None, error=str(error))


def _redraw(autoencoder: Autoencoder, sources: Sequence[_Source], out: Path, pool: ThreadPoolExecutor) -> Iterator[Row]:
    """Write the reconstructions of a batch; a row for each of ``sources``."""
    images = [source.image for source in sources if source.image is not None]
    written: Iterator[str] = iter(())
    values: Iterator[float] = iter(())
    if images:
        image = to_float(torch.stack(images)).to(autoencoder.device)
        redrawn = autoencoder(image)
        values = iter(psnr(redrawn, image).tolist())
        places = [out / source.picture.output for source in sources if source.image is not None]
        written = pool.map(_write_png, places, to_arrays(redrawn))
    for source in sources:
        path = str(source.picture.path)
        if source.image is None:
            yield Row(path, error=source.error)
        else:
            yield Row(path, source.picture.output, next(values), "", source.sha256, next(written), autoencoder.checksum)


def _write_png(path: Path, pixels: Pixels) -> str:
    """The SHA-256 of the file's bytes."""
    write_atomically(path, encode_png(Image.fromarray(pixels)))
    return sha256(path)


def _kept(row: Row | None, picture: Picture, out: Path) -> Row | None:
    """``row`` if its PNG is there and still the one that this picture gave."""
    if row is None or not row.model or row.picture != str(picture.path):
        return None
    png = out / picture.output
    try:
        is_same = sha256(png) == row.output_sha256 and sha256(picture.path) == row.picture_sha256
    except OSError:
        return None
    return row if is_same else None


def _read_rows(out: Path, model: str) -> dict[str, Row]:
    """The reconstructions that earlier runs wrote, by output name; a line cut short by a crash is left out.

    Raises:
        UserError: they are another model's.
    """
    path = out / LINES_FILE
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        row = _parse(line)
        if row is None or row.psnr is None:
            continue
        if row.model != model:
            raise UserError(
                f"out {str(out)!r}: holds the reconstructions of another model ({row.model[:12]}, this one is "
                f"{model[:12]}); name another folder, or write over them (--overwrite)"
            )
        rows[row.output] = row
    return rows


def _parse(line: str) -> Row | None:
    try:
        values: dict[str, Any] = json.loads(line)
        return Row(**{field.name: values[field.name] for field in fields(Row)})
    except (ValueError, KeyError, TypeError):
        return None


def _write_figures(out: Path, rows: Sequence[Row], others: Sequence[Row]) -> None:
    """Both files anew: ``rows`` in order, then those of other pictures whose reconstructions are still there."""
    every = [*rows, *(row for row in others if (out / row.output).is_file())]
    write_atomically(out / LINES_FILE, "".join(json.dumps(asdict(row)) + "\n" for row in every).encode())
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["picture", "output", "psnr", "error"])
    table.writerows([row.picture, row.output, row.psnr, row.error] for row in every)
    write_atomically(out / TABLE_FILE, text.getvalue().encode())
