"""What other people's records say of a picture: where it lies, its captions and its class, in whatever fields.

In: one mapping, as it lies in the JSON beside a picture, in a line of JSONL or in a row of a table. Out: paths, and a
caption and metadata in the form of :class:`~raekit.data.sample.Sample`. Field names may be given; by default the usual
ones are looked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raekit.data.sample import BadSample, whole_number

CAPTION_FIELDS = ("caption", "captions", "text", "prompt")
"""Where captions are looked for when no field is named, in this order."""

NO_PICTURE = ("", "none", "nan", "null")
"""What stands in place of a picture's path in records that are only text."""


def record_in(content: bytes, name: str) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        BadSample: there is none; ``name`` is in the message.
    """
    try:
        record = json.loads(content)
    except ValueError as error:
        raise BadSample(f"{name}: is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise BadSample(f"{name}: holds a {type(record).__name__}, not an object")
    return record


def picture_paths(value: object, name: str) -> list[str]:
    """The paths of pictures that a field of a record states: one, those of a list, or none.

    Args:
        value: of the field.
        name: of the record, for the message.

    Raises:
        BadSample: something else stands there, or an address on the web.
    """
    paths = []
    for path in value if isinstance(value, list) else [value]:
        if path is None or (isinstance(path, float) and path != path):
            continue
        if not isinstance(path, str) or "\0" in path:
            raise BadSample(f"{name}: {path!r} is no path of a picture")
        path = path.strip()
        if path.startswith(("http://", "https://")):
            raise BadSample(f"{name}: names a picture on the web ({path}); download it first")
        if path.lower() not in NO_PICTURE:
            paths.append(path)
    return paths


def captions_in(record: Mapping[str, Any], field: str | None = None) -> list[str]:
    """The captions of a record: of ``field``, or of the first usual field that holds any.

    A field holds one string or a list of them; blank ones and what is no string are left out.
    """
    for name in CAPTION_FIELDS if field is None else (field,):
        value = record.get(name)
        several = value if isinstance(value, list | tuple) else [value]
        if found := [text.strip() for text in several if isinstance(text, str) and text.strip()]:
            return found
    return []


def described(record: Mapping[str, Any], captions: list[str], label: Any = None) -> tuple[str, dict[str, Any]]:
    """Caption and metadata of a record.

    Args:
        record: everything known; kept as metadata, but for its captions.
        captions: the canonical one first; may be empty.
        label: the class index, as a number or as digits; anything else is no class.
    """
    metadata = {key: value for key, value in record.items() if key not in ("caption", "alternatives")}
    known = record.get("alternatives")
    others = [*captions[1:], *(known if isinstance(known, list) else ())]
    if others := [text for text in others if isinstance(text, str)]:
        metadata["alternatives"] = others
    if (number := whole_number(label)) is not None:
        metadata["label"] = number
    return (captions[0] if captions else ""), metadata
