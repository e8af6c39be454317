"""A JSONL file as a source: one picture's path and what it shows on each line.

In: lines such as ``{"image": "photos/1.jpg", "caption": "a red barn"}``. Out: :class:`Sample` by index. The file is
read once, when it is opened: lines that are no object or name no picture are left out, counted, and the first few
named; of the others only the place in the file is kept. The layout is that of Scale-RAE and LLaVA (their
``conversations`` are not read here), with the names of the fields as settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from raekit.data import left_out
from raekit.data.fingerprint import fingerprint_of, sketch_of
from raekit.data.json_lines import JsonLines
from raekit.data.records import captions_in, described, picture_paths
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.errors import UserError
from raekit.files import sha256


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
        fields: set[str] = set()

        def check(record: dict[str, Any], name: str) -> None:
            self._path_in(record, name)
            fields.update(record)

        self.lines = JsonLines(config.path, config.image_folder, check)
        self.left_out = self.lines.left_out
        left_out.report(self.lines.path, "lines", [*self.left_out.values()], len(self), "names no picture")
        if config.caption not in (None, *fields):
            raise UserError(f"caption {config.caption!r}: no such field in {self.lines.path}; known: {sorted(fields)}")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Sample:
        record, cfg = self.lines[index], self.config
        image = self.lines.picture(self._path_in(record, self.lines.name_of(index)), index)
        own = (cfg.image, cfg.caption, cfg.label, "conversations")
        rest = {field: value for field, value in record.items() if field not in own}
        caption, metadata = described(rest, captions_in(record, cfg.caption), record.get(cfg.label))
        return Sample(image, caption, self.key_of(index), metadata)

    def key_of(self, index: int) -> str:
        return self.lines.key_of(index)

    def fingerprint(self) -> str:
        paths = (self._path_in(self.lines[index], self.lines.name_of(index)) for index in range(len(self)))
        pictures = [sketch_of(self.lines.image_folder / path) for path in paths]
        fields = (self.config.image, self.config.caption, self.config.label)
        return fingerprint_of([fields, sha256(self.lines.path), *pictures])

    def _path_in(self, record: dict[str, Any], name: str) -> str:
        """The path of the picture as the record states it.

        Raises:
            BadSample: it states none; ``name`` is in the message.
        """
        value = record.get(self.config.image)
        found = picture_paths(value[:1] if isinstance(value, list) else value, name)
        if not found:
            raise BadSample(f"{name}: has no {self.config.image!r}")
        return found[0]
