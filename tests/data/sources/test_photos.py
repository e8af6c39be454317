from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from raekit.data.shards import Shards
from raekit.data.sources import photos
from raekit.data.sources.photo_list import PACKAGES, PHOTOS, Photo
from raekit.data.sources.photos import Photos, shrunk, split_of
from raekit.errors import UserError


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """Two "photographs" of noise, and one whose left half is plain."""
    listed = tuple(Photo("mate-backgrounds", f"{name}.png", name.upper(), "CC0-1.0", f"a {name}") for name in "abc")
    monkeypatch.setattr(photos, "PHOTOS", listed)
    for number, photo in enumerate(listed):
        image = np.random.default_rng(number).integers(0, 255, (70, 100, 3), np.uint8)
        if number == 2:
            image[:, :50] = 7
        path = tmp_path / photo.folder / photo.file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path


def test_photographs_are_cut_into_disjoint_squares(unpacked, tmp_path) -> None:
    manifest = Photos(Photos.Config(unpacked=unpacked, size=32)).build(tmp_path / "out")
    assert manifest.dropped == {"flat": 2}
    assert sum(manifest.splits.values()) == 3 * 2 * 3 - 2
    source = Shards(Shards.Config(path=tmp_path / "out"))
    whole = np.asarray(Image.open(unpacked / "usr/share/backgrounds/mate/nature/a.png"))
    sample = source[source.keys.index("a_1_2")]
    assert np.array_equal(sample.image, whole[32:64, 64:96])
    assert sample.caption == "part of a photo of a a"
    assert sample.metadata["author"] == "A"
    assert "| c.png | C | CC0-1.0 |" in (tmp_path / "out" / "ATTRIBUTION.md").read_text()


def test_no_photograph_is_on_both_sides(unpacked, tmp_path) -> None:
    Photos(Photos.Config(unpacked=unpacked, size=32)).build(tmp_path / "out")
    source = Shards(Shards.Config(path=tmp_path / "out"))
    sides = {(facts["photo"], facts["split"]) for facts in map(source.metadata, range(len(source)))}
    assert len(sides) == len({photo for photo, _ in sides}) == 3


def test_large_photographs_are_shrunk_first(unpacked, tmp_path) -> None:
    manifest = Photos(Photos.Config(unpacked=unpacked, size=32, short_side=64)).build(tmp_path / "out")
    assert sum(manifest.splits.values()) + manifest.dropped.get("flat", 0) == 3 * 2 * 2
    assert shrunk((4000, 2000), 1024) == (2048, 1024)
    assert shrunk((400, 200), 1024) == (400, 200)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"Bridge_by_Sander_Klootwijk\.jpg"):
        Photos(Photos.Config(unpacked=tmp_path)).build(tmp_path / "out")


def test_the_list_is_whole() -> None:
    assert len(PHOTOS) == len({(photo.package, photo.file) for photo in PHOTOS}) == 37
    assert all(photo.author and photo.licence and photo.shows and photo.package in PACKAGES for photo in PHOTOS)
    assert 4 <= sum(split_of(photo) == "test" for photo in PHOTOS) <= 12
