from __future__ import annotations

from raekit.data.sources.photo_list import PHOTOS


def test_captions_are_lower_case_phrases() -> None:
    """They follow "part of a photo of "."""
    assert all(photo.shows[0].islower() and not photo.shows.endswith(".") for photo in PHOTOS)


def test_files_lie_where_their_package_puts_them() -> None:
    assert {photo.folder for photo in PHOTOS} == {
        "usr/share/backgrounds",
        "usr/share/backgrounds/mate/nature",
        "usr/share/wallpapers",
    }
