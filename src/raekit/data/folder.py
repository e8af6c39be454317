"""A folder of pictures as a source: captions from ``.txt`` files, or classes from sub-folders.

In: ``name.jpg`` with ``name.txt`` beside it, or ``class/name.jpg``. Out: :class:`Sample` by index, sorted by path. A
picture with neither has an empty caption, which is all that decoder training needs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from raekit.data.decode import IMAGE_SUFFIXES, decode_image
from raekit.data.sample import BadSample, Sample, Source, SourceConfig
from raekit.errors import UserError


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
        self.files = sorted(_find_images(self.root))
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
            raise BadSample(f"{path}: cannot be read ({error})") from None
        caption, metadata = self._described(index)
        return Sample(decode_image(content, str(path)), caption, self.files[index], metadata)

    def _described(self, index: int) -> tuple[str, dict[str, Any]]:
        """The caption and the label; a ``.txt`` beside the picture wins over the name of its class."""
        file = self.files[index]
        top = file.split("/")[0] if "/" in file else None
        metadata = {} if top is None else {"label": self._labels[top]}
        text = (self.root / file).with_suffix(".txt")
        if text.is_file():
            return text.read_text(encoding="utf-8", errors="replace").strip(), metadata
        return ("" if top is None else top.replace("_", " ").replace("-", " ")), metadata


def _find_images(root: Path) -> list[str]:
    """Paths relative to ``root``, with forward slashes."""
    found = []
    for folder, _, names in os.walk(root):
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return found
