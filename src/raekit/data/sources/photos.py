"""A few dozen real photographs, cut into crops: natural images for decoders and for reconstruction scores.

In: Debian wallpaper packages. Out: shards of square crops, split by photograph, so that no part of a test photograph
was trained on. 37 photographs are far from the web's variety: good for sanity and for PSNR on natural statistics,
not for text to image. Their licences differ (CC-BY, CC-BY-SA, CC0, LGPL, GPL) and stand in each sample: build them
where they are used, and do not pass them on.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from raekit import config
from raekit.data.attribution import Credit, write_attribution
from raekit.data.builder import Drawn, Dropped, Manifest, build_shards, split_into_parts
from raekit.data.sample import Pixels
from raekit.data.sources.debian import fetch_packages, package_version
from raekit.data.sources.photo_list import PACKAGES, PHOTOS, Photo
from raekit.data.sources.svg import digest
from raekit.errors import UserError

FLAT = 3.0
"""Standard deviation of a crop's grey values, of 255, below which it shows nothing."""


@dataclass(frozen=True)
class CropOf:
    """One square of one photograph, in the grid of its disjoint squares."""

    photo: Photo
    path: Path
    row: int
    column: int


class Photos:
    """A few dozen photographs under free licences, cut into crops."""

    class Config(config.Config):
        """Size of the crops, and how far photographs are shrunk before they are cut."""

        name: Literal["photos"] = "photos"
        size: int = Field(256, ge=32, le=1024)
        """Height and width of a crop in pixels."""
        short_side: int = Field(1024, ge=64)
        """Photographs are shrunk to this short side at most: at full size most crops are blur and noise."""
        samples_per_shard: int = Field(1000, ge=1)
        """Crops per shard before flat ones are dropped."""
        unpacked: Path | None = None
        """A folder into which the Debian packages are already unpacked; by default they are fetched."""
        cache: Path = Path("~/.cache/raekit/debian")
        """Where fetched packages are kept."""
        workers: int = Field(1, ge=1)
        """Cutting processes."""

    def __init__(self, settings: Config) -> None:
        self.config = settings

    def build(self, folder: Path) -> Manifest:
        """Cut the photographs into ``folder``; continues where an earlier run of the same build stopped."""
        cfg = self.config
        unpacked = cfg.unpacked or fetch_packages(PACKAGES, cfg.cache.expanduser())
        splits: dict[str, list[CropOf]] = {"train": [], "test": []}
        for photo in PHOTOS:
            splits[split_of(photo)].extend(crops_of(photo, _find(unpacked, photo), cfg.size, cfg.short_side))
        settings = cfg.model_dump(mode="json", exclude={"unpacked", "cache", "workers"})
        settings["packages"] = {name: package_version(unpacked, name) or "unknown" for name in PACKAGES}
        parts = split_into_parts(splits, cfg.samples_per_shard)
        draw = partial(cut, size=cfg.size, short_side=cfg.short_side)
        manifest = build_shards(folder, Manifest("photos", settings), parts, draw, cfg.workers)
        write_attribution(folder, "Photographs", [_credit(photo, settings["packages"]) for photo in PHOTOS])
        return manifest


def split_of(photo: Photo) -> str:
    """A fifth of the photographs is for testing, chosen by name."""
    digest_ = hashlib.md5(photo.file.encode(), usedforsecurity=False).hexdigest()
    return "test" if int(digest_, 16) % 5 == 0 else "train"


def crops_of(photo: Photo, path: Path, size: int, short_side: int) -> Iterator[CropOf]:
    """The disjoint squares of one photograph, row by row."""
    with Image.open(path) as picture:
        width, height = shrunk(picture.size, short_side)
    for row in range(height // size):
        for column in range(width // size):
            yield CropOf(photo, path, row, column)


def shrunk(extent: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Width and height with the short side at most ``short_side``."""
    scale = min(1.0, short_side / min(extent))
    return round(extent[0] * scale), round(extent[1] * scale)


def cut(item: CropOf, size: int, short_side: int) -> Drawn | Dropped:
    """One crop as lossless WebP."""
    whole = _load(item.path, short_side)
    top, left = item.row * size, item.column * size
    crop = np.ascontiguousarray(whole[top : top + size, left : left + size])
    if crop.mean(axis=2).std() < FLAT:
        return Dropped("flat")
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, format="WEBP", lossless=True, quality=30, method=2)
    photo = item.photo
    metadata = {
        "caption": f"part of a photo of {photo.shows}",
        "alternatives": [photo.shows, "a photo"],
        "photo": photo.file,
        "author": photo.author,
        "licence": photo.licence,
        "source": f"{photo.package}:{photo.file}",
        "split": split_of(photo),
    }
    name = Path(photo.file).stem if photo.package.startswith(("lomiri", "mate")) else Path(photo.file).parts[0]
    return Drawn(f"{name}_{item.row}_{item.column}", buffer.getvalue(), metadata, digest(crop))


@lru_cache(maxsize=2)
def _load(path: Path, short_side: int) -> Pixels:
    with Image.open(path) as picture:
        extent = shrunk(picture.size, short_side)
        return np.asarray(picture.convert("RGB").resize(extent, Image.Resampling.LANCZOS))


def _find(unpacked: Path, photo: Photo) -> Path:
    path = unpacked / photo.folder / photo.file
    if not path.is_file():
        raise UserError(f"unpacked {unpacked}: holds no {photo.folder}/{photo.file}; unpack {photo.package} there")
    return path


def _credit(photo: Photo, versions: dict[str, str]) -> Credit:
    return Credit(
        title=photo.file,
        author=photo.author,
        url="",
        licence=photo.licence,
        licence_url="",
        version=f"Debian {photo.package} {versions[photo.package]}",
        changes="shrunk and cut into squares",
    )
