"""A JSONL file as a source: one picture's path and what it shows on each line.

In: lines such as ``{"image": "photos/1.jpg", "caption": "a red barn"}``. Out: :class:`Sample` by index. The file is
read once, when it is opened: lines that are no object or name no picture are left out, counted, and the first few
named; of the others only the place in the file is kept. The layout is that of Scale-RAE and LLaVA (their
``conversations`` are not read here), with the names of the fields as settings.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from raekit.data.decode import decode_image
from raekit.data.fingerprint import fingerprint_of, sketch_of
from raekit.data.records import captions_in, described
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.errors import UserError
from raekit.files import sha256

_log = logging.getLogger(__name__)

_NAMED = 3
"""Lines left out that a message names; the others are only counted."""

_NO_PICTURE = ("", "none", "nan", "null")
"""What stands in place of a path on lines that hold only text."""


class Jsonl(Source):
    """Lines of JSON, each with the path of a picture and its captions.

    Raises:
        UserError: the file is missing, no line of it names a picture, or none has the caption field asked for.
    """

    class Config(SourceConfig):
        """Where the lines are, and what their fields are called."""

        name: Literal["jsonl"] = "jsonl"
        path: Path
        """The file, one JSON object a line."""
        image_folder: Path | None = None
        """What relative paths of pictures start from; by default the folder of the file."""
        image: str = "image"
        """Field that holds the picture's path; of a list of paths, the first is read."""
        caption: str | None = None
        """Field that holds the caption, or a list of them; by default caption, captions, text or prompt."""
        label: str = "label"
        """Field that holds the class index, where there is one."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = config.path.expanduser()
        self.image_folder = (config.image_folder or self.path.parent).expanduser()
        if not self.path.is_file():
            raise UserError(f"path {self.path}: no such file; give a file with one JSON object a line")
        self._numbers, self._offsets = array("q"), array("q")  # line and byte where each sample begins
        self.left_out: list[str] = []
        """Lines without a picture, and why."""
        self._read_lines()
        if self.left_out:
            _log.warning("%s: %s", self.path, self._why_left_out())

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Sample:
        number = self._numbers[index]
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            record = _parse(file.readline(), f"{self.path}: line {number}")
        path = self.image_folder / self._path_in(record)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadSample(f"{path} ({self.path.name}, line {number}): cannot be read ({error.strerror})") from None
        cfg = self.config
        own = (cfg.image, cfg.caption, cfg.label, "conversations")
        rest = {field: value for field, value in record.items() if field not in own}
        caption, metadata = described(rest, captions_in(record, cfg.caption), record.get(cfg.label))
        return Sample(decode_image(content, str(path)), caption, self.key_of(index), metadata)

    def key_of(self, index: int) -> str:
        return f"{self._numbers[index]:09d}"

    def fingerprint(self) -> str:
        pictures = []
        with self.path.open("rb") as file:
            for offset in self._offsets:
                file.seek(offset)
                path = self._path_in(_parse(file.readline(), str(self.path)))
                pictures.append(sketch_of(self.image_folder / path))
        fields = (self.config.image, self.config.caption, self.config.label)
        return fingerprint_of([fields, sha256(self.path), *pictures])

    def _read_lines(self) -> None:
        """Note where every line with a picture begins."""
        fields: set[str] = set()
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        record = _parse(line, f"line {number}")
                        self._check(record, f"line {number}")
                        fields.update(record)
                        self._numbers.append(number)
                        self._offsets.append(offset)
                    except BadSample as error:
                        self.left_out.append(str(error))
                offset += len(line)
        if not self._offsets:
            raise UserError(f"path {self.path}: names no picture; {self._why_left_out()}")
        if self.config.caption not in (None, *fields):
            raise UserError(f"caption {self.config.caption!r}: no such field in {self.path}; known: {sorted(fields)}")

    def _why_left_out(self) -> str:
        more = ", ..." if len(self.left_out) > _NAMED else ""
        named = "; ".join(self.left_out[:_NAMED])
        return f"{len(self.left_out)} lines left out: {named}{more}" if named else "it is empty"

    def _check(self, record: Mapping[str, Any], name: str) -> None:
        path = self._path_in(record)
        if path.lower() in _NO_PICTURE:
            raise BadSample(f"{name} has no {self.config.image!r}")
        if path.startswith(("http://", "https://")):
            raise BadSample(f"{name} names a picture on the web ({path}): download it first")
        if "\0" in path:
            raise BadSample(f"{name} has a zero byte in its path")

    def _path_in(self, record: Mapping[str, Any]) -> str:
        """The path of the picture as the record states it; empty where it states none."""
        value = record.get(self.config.image)
        if isinstance(value, list) and value:
            value = value[0]
        return value.strip() if isinstance(value, str) else ""


def _parse(line: bytes, name: str) -> dict[str, Any]:
    """The object on a line.

    Raises:
        BadSample: it holds none.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadSample(f"{name} is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise BadSample(f"{name} holds a {type(record).__name__}, not an object")
    return record
