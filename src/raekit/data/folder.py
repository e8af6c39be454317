"""A folder of pictures as a source: captions from ``.txt`` files, or classes from sub-folders.

In: ``name.jpg`` with ``name.txt`` beside it, or ``class/name.jpg``, nested as deep as one likes (the layout of
torchvision's ImageFolder). Out: :class:`Sample` by index, sorted by path. A picture with neither has an empty caption,
which is all that decoder training needs. Links are followed, but never in a circle.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from raekit.data.decode import IMAGE_SUFFIXES, VECTOR_SUFFIXES, decode_image
from raekit.data.fingerprint import fingerprint_of, sketch_of
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.errors import UserError

_log = logging.getLogger(__name__)


class Folder(Source):
    """A folder of pictures with .txt captions, or of one sub-folder per class.

    Raises:
        UserError: the folder is missing or holds no picture.
    """

    class Config(SourceConfig):
        """Where the pictures are."""

        name: Literal["folder"] = "folder"
        path: Path
        """The folder; its sub-folders are classes, numbered in the order of their names."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = config.path.expanduser()
        if not self.root.is_dir():
            raise UserError(f"path {self.root}: no such folder; give the folder that holds the pictures")
        files = list(_find_files(self.root))
        self.files = sorted(file for file in files if file.lower().endswith(IMAGE_SUFFIXES))
        num_drawings = sum(file.lower().endswith(VECTOR_SUFFIXES) for file in files)
        if num_drawings:
            _log.warning("%s: %d vector drawings (SVG) are left out; render them first", self.root, num_drawings)
        if not self.files:
            raise UserError(f"path {self.root}: holds no {', '.join(IMAGE_SUFFIXES)} files; give another folder")
        self.classes = sorted({file.split("/")[0] for file in self.files if "/" in file})
        """Class names, by label."""
        self._labels = {name: label for label, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        path = self.root / self.files[index]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadSample(f"{path}: cannot be read ({error.strerror})") from None
        caption, metadata = self._described(index)
        return Sample(decode_image(content, str(path)), caption, self.files[index], metadata)

    def key_of(self, index: int) -> str:
        return self.files[index]

    def fingerprint(self) -> str:
        files = ((file, sketch_of(self.root / file), self._described(i)[0]) for i, file in enumerate(self.files))
        return fingerprint_of(files)

    def _described(self, index: int) -> tuple[str, dict[str, Any]]:
        """The caption and the label; a ``.txt`` beside the picture wins over the name of its class."""
        file = self.files[index]
        top = file.split("/")[0] if "/" in file else None
        metadata = {} if top is None else {"label": self._labels[top]}
        text = (self.root / file).with_suffix(".txt")
        if text.is_file():
            return text.read_text(encoding="utf-8-sig", errors="replace").strip(), metadata
        return ("" if top is None else top.replace("_", " ").replace("-", " ")), metadata


def _find_files(root: Path) -> Iterator[str]:
    """Paths relative to ``root``, with forward slashes; nothing hidden, and no folder again inside itself."""
    above = {root: {os.path.realpath(root)}}
    for folder, names, files in os.walk(root, followlinks=True):
        here = Path(folder)
        seen = above.pop(here)
        inner = {name: os.path.realpath(here / name) for name in names if not name.startswith(".")}
        names[:] = sorted(name for name, real in inner.items() if real not in seen)
        above.update({here / name: seen | {inner[name]} for name in names})
        relative = here.relative_to(root)
        yield from ((relative / name).as_posix() for name in files if not name.startswith("."))
