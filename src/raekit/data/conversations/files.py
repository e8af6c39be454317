"""Conversations on disk: lines of JSON with paths of pictures, and WebDataset tars.

In: ``{"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, ...]}`` on each line
(LLaVA, Cambrian, BLIP-3o), or the same in the ``.json`` of a tar's samples with their pictures beside it. Out:
:class:`Conversation` by index. Several pictures, one, or none go with a conversation. A file is read once when it is
opened: lines that hold no usable conversation are left out, counted, and the first few named. A picture that cannot be
read is met later; whoever reads passes that conversation over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raekit.data import left_out
from raekit.data.conversations.base import (
    Conversation,
    ConversationConfig,
    ConversationSource,
    Turn,
    usable_turns,
)
from raekit.data.decode import IMAGE_SUFFIXES, decode_image
from raekit.data.json_lines import JsonLines
from raekit.data.patterns import expand
from raekit.data.records import picture_paths, record_in
from raekit.data.sample import BadSample
from raekit.data.tar import Members, Span, index_tar
from raekit.errors import UserError

LACKING = "holds no conversation"


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
        self.lines = JsonLines(config.path, config.image_folder, self._read)
        self.left_out = self.lines.left_out
        left_out.report(self.lines.path, "lines", [*self.left_out.values()], len(self), LACKING)

    def __len__(self) -> int:
        return len(self.lines)

    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        del chance
        turns, paths = self._read(self.lines[index], self.lines.name_of(index))
        images = tuple(self.lines.picture(path, index) for path in paths)
        return Conversation(turns, images, self.key_of(index))

    def key_of(self, index: int) -> str:
        return self.lines.key_of(index)

    def _read(self, record: Mapping[str, Any], name: str) -> tuple[tuple[Turn, ...], list[str]]:
        """What is said on a line, and the paths of its pictures.

        Raises:
            BadSample: it holds no usable conversation; ``name`` is in the message.
        """
        paths = picture_paths(record.get(self.config.image), name)
        return usable_turns(record.get(self.config.conversations), len(paths), name), paths


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
        self.left_out: dict[str, str] = {}  # samples without a JSON, and pictures that nothing is said about
        for number, path in enumerate(self.paths):
            index = index_tar(path)
            for key, members in zip(index.keys, index.members, strict=True):
                self._add(number, key, members)
        left_out.report(self.path, "samples", [*self.left_out.values()], len(self), LACKING)

    def __len__(self) -> int:
        return len(self._samples)

    def conversation(self, index: int, chance: np.random.Generator) -> Conversation:
        del chance
        tar, key, span = self._samples[index]
        name = f"{self.paths[tar]}:{key}"
        record = record_in(self._read(tar, span), f"{name}.json")
        spans = self._spans(tar, key, record, name)
        turns = usable_turns(record.get(self.config.conversations), len(spans), name)
        images = tuple(decode_image(self._read(tar, span), name) for span in spans)
        return Conversation(turns, images, self.key_of(index))

    def key_of(self, index: int) -> str:
        tar, key, _ = self._samples[index]
        return f"{self.paths[tar].stem}/{key}"

    def _add(self, tar: int, key: str, members: Members) -> None:
        named = [suffix for suffix in members if suffix.endswith(IMAGE_SUFFIXES)]
        named.sort(key=lambda suffix: (len(suffix), suffix))  # .2.jpg before .10.jpg
        self._pictures[tar, key] = tuple(members[suffix] for suffix in named)
        if ".json" in members:
            self._samples.append((tar, key, members[".json"]))
        elif not named:
            self.left_out[f"{self.paths[tar].stem}/{key}"] = f"{self.paths[tar].name}:{key} has no .json"

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
