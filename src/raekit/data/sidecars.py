"""The files beside a picture in a WebDataset tar: what they say of it.

In: the contents of ``.json``, ``.txt`` and ``.cls``, those that are there. Out: caption and metadata of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raekit.data.decode import IMAGE_SUFFIXES
from raekit.data.records import captions_in, described, record_in
from raekit.data.sample import whole_number
from raekit.data.tar import Members, Span

SIDECARS = (".json", ".txt", ".cls")


def picture_suffixes(image: str | None) -> tuple[str, ...]:
    """The suffixes a picture may have: any picture's, or the one that a recipe names."""
    return IMAGE_SUFFIXES if image is None else ("." + image.lstrip(".").lower(),)


def picture_of(members: Members, suffixes: tuple[str, ...]) -> Span | None:
    """Where the picture of a sample lies; nothing where it has none."""
    return next((members[suffix] for suffix in suffixes if suffix in members), None)


def told(contents: Mapping[str, bytes], name: str, caption_field: str | None = None) -> tuple[str, dict[str, Any]]:
    """Caption and metadata.

    Args:
        contents: of the sidecars, by suffix.
        name: of the sample, for the error.
        caption_field: field of the JSON that holds the captions; by default caption, the ``.txt``, or the usual others.

    Raises:
        BadSample: the JSON is broken, or no object.
    """
    record = record_in(contents[".json"], f"{name}.json") if ".json" in contents else {}
    captions = captions_in(record, caption_field)
    if ".txt" in contents and caption_field is None and "caption" not in record:
        captions = [contents[".txt"].decode(errors="replace").strip()]
    label = record.get("label")
    if whole_number(label) is None and ".cls" in contents:
        label = contents[".cls"]
    return described(record, captions, label)
