"""Conversations on disk: lines of JSON with paths of pictures, and WebDataset tars.

In: ``{"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, ...]}`` on each line
(LLaVA, Cambrian, BLIP-3o), or the same in the ``.json`` of a tar's samples with their pictures beside it. Out:
:class:`Conversation` by index. Several pictures, one, or none go with a conversation. A file is read once when it is
opened: lines that hold no usable conversation are left out, counted, and the first few named. A picture that cannot be
read is met later; whoever reads passes that conversation over.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raekit.data.conversations.base import (
    Conversation,
    ConversationConfig,
    ConversationSource,
    usable_turns,
)
from raekit.data.decode import IMAGE_SUFFIXES, decode_image
from raekit.data.patterns import expand
from raekit.data.sample import BadSample, Pixels
from raekit.data.tar import Members, Span, index_tar
from raekit.errors import UserError

_log = logging.getLogger(__name__)

NAMED = 3
"""Conversations left out that a message names; the others are only counted."""
NO_PICTURE = ("", "none", "nan", "null")
"""What stands in place of a path on lines that hold only text."""


class Llava(ConversationSource):
    """Lines of JSON, each with a conversation and the paths of its pictures.

    Raises:
        UserError: the file is missing, or no line of it holds a conversation.
    """

    class Config(ConversationConfig):
        """Where the lines are, and what their fields are called."""

        name: Literal["llava"] = "llava"
        path: Path
        """The file, one JSON object a line."""
        image_folder: Path | None = None
        """What relative paths of pictures start from; by default the folder of the file."""
        image: str = "image"
        """Field that holds the path of a picture, or a list of them; without any, the conversation is words alone."""
        conversations: str = "conversations"
        """Field that holds the turns."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = config.path.expanduser()
        self.image_folder = (config.image_folder or self.path.parent).expanduser()
        if not self.path.is_file():
            raise UserError(f"path {self.path}: no such file; give a file with one JSON object a line")
        self._numbers, self._offsets = array("q"), array("q")  # line and byte where each conversation begins
        self.left_out: list[str] = []
        """Lines without a usable conversation, and why."""
        self._read_lines()
        report_left_out(self.path, "lines", self.left_out, len(self))

    def __len__(self) -> int:
        return len(self._offsets)

    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        del chance
        name = f"{self.path.name}, line {self._numbers[index]}"
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            record = parsed(file.readline(), name)
        paths = self._paths(record, name)
        turns = usable_turns(record.get(self.config.conversations), len(paths), name)
        images = tuple(self._image(path, name) for path in paths)
        return Conversation(turns, images, f"{self._numbers[index]:09d}")

    def _image(self, path: str, name: str) -> Pixels:
        full = self.image_folder / path
        try:
            content = full.read_bytes()
        except OSError as error:
            raise BadSample(f"{full} ({name}): cannot be read ({error.strerror})") from None
        return decode_image(content, str(full))

    def _paths(self, record: Mapping[str, Any], name: str) -> list[str]:
        """Paths of the pictures, as the record states them."""
        value = record.get(self.config.image)
        paths = []
        for path in value if isinstance(value, list) else [value]:
            if path is None or (isinstance(path, float) and path != path):
                continue
            if not isinstance(path, str) or "\0" in path:
                raise BadSample(f"{name}: {path!r} is no path of a picture")
            if path.startswith(("http://", "https://")):
                raise BadSample(f"{name}: names a picture on the web ({path}); download it first")
            if path.strip().lower() not in NO_PICTURE:
                paths.append(path.strip())
        return paths

    def _read_lines(self) -> None:
        """Note where every line with a usable conversation begins."""
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        record = parsed(line, f"line {number}")
                        num_images = len(self._paths(record, f"line {number}"))
                        usable_turns(record.get(self.config.conversations), num_images, f"line {number}")
                        self._numbers.append(number)
                        self._offsets.append(offset)
                    except BadSample as error:
                        self.left_out.append(str(error))
                offset += len(line)


class ConversationShards(ConversationSource):
    """WebDataset tars with a conversation in the JSON beside each picture.

    A sample's pictures are its members in the order of their names (``7.jpg``; ``7.0.jpg``, ``7.1.jpg``), or the one
    that its JSON calls ``image_filename``, as Scale-RAE's tars have it.

    Raises:
        UserError: no tar there, a tar is cut short, or none of its samples holds a conversation.
    """

    class Config(ConversationConfig):
        """Where the tars are."""

        name: Literal["conversation_shards"] = "conversation_shards"
        path: Path
        """A ``.tar``, a folder that holds some, or a pattern: ``talk-{000000..000120}.tar``."""
        conversations: str = "conversations"
        """Field of the JSON that holds the turns."""
        image_filename: str = "image_filename"
        """Field of the JSON that names the member with the picture, where there is one."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = config.path.expanduser()
        self.paths = sorted(self.path.glob("*.tar")) if self.path.is_dir() else expand(self.path)
        if not self.paths:
            raise UserError(f"path {self.path}: holds no .tar files; give those with the conversations")
        self._samples: list[tuple[int, str, Span]] = []
        self._pictures: dict[tuple[int, str], tuple[Span, ...]] = {}
        self.left_out: list[str] = []
        """Samples without a JSON, and pictures that nothing is said about."""
        for number, path in enumerate(self.paths):
            index = index_tar(path)
            for key, members in zip(index.keys, index.members, strict=True):
                self._add(number, key, members)
        report_left_out(self.path, "samples", self.left_out, len(self))

    def __len__(self) -> int:
        return len(self._samples)

    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        del chance
        tar, key, span = self._samples[index]
        name = f"{self.paths[tar]}:{key}"
        record = parsed(self._read(tar, span), name)
        spans = self._spans(tar, key, record, name)
        turns = usable_turns(record.get(self.config.conversations), len(spans), name)
        images = tuple(decode_image(self._read(tar, span), name) for span in spans)
        return Conversation(turns, images, f"{self.paths[tar].stem}/{key}")

    def _add(self, tar: int, key: str, members: Members) -> None:
        named = [suffix for suffix in members if suffix.endswith(IMAGE_SUFFIXES)]
        named.sort(key=lambda suffix: (len(suffix), suffix))  # .2.jpg before .10.jpg
        self._pictures[tar, key] = tuple(members[suffix] for suffix in named)
        if ".json" in members:
            self._samples.append((tar, key, members[".json"]))
        elif not named:
            self.left_out.append(f"{self.paths[tar].name}:{key} has no .json")

    def _spans(self, tar: int, key: str, record: Mapping[str, Any], name: str) -> tuple[Span, ...]:
        """Where the pictures of a sample lie."""
        file = record.get(self.config.image_filename)
        if not isinstance(file, str) or not file:
            return self._pictures[tar, key]
        folder, _, last = file.rpartition("/")
        stem = last.partition(".")[0]
        found = self._pictures.get((tar, f"{folder}/{stem}" if folder else stem), ())
        if not found:
            raise BadSample(f"{name}: its picture {file!r} is not in the tar")
        return found

    def _read(self, tar: int, span: Span) -> bytes:
        with self.paths[tar].open("rb") as file:
            file.seek(span[0])
            return file.read(span[1])


def report_left_out(path: Path, what: str, left_out: Sequence[str], num_kept: int) -> None:
    """Say how many lines or samples were left out, and name the first few.

    Raises:
        UserError: nothing was kept.
    """
    more = ", ..." if len(left_out) > NAMED else ""
    reason = f"{len(left_out)} {what} left out: {'; '.join(left_out[:NAMED])}{more}" if left_out else "it is empty"
    if not num_kept:
        raise UserError(f"path {path}: holds no conversation; {reason}")
    if left_out:
        _log.warning("%s: %s", path, reason)


def parsed(content: bytes, name: str) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        BadSample: there is none.
    """
    try:
        record = json.loads(content)
    except ValueError as error:
        raise BadSample(f"{name}: is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise BadSample(f"{name}: holds a {type(record).__name__}, not an object")
    return record
