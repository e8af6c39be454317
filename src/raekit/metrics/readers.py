"""Text recognisers behind one contract.

In: a picture. Out: the text in it. Pictures are enlarged first, as both recognisers were made for scanned pages, and
each picture is read once, however often it is asked for: the originals stay the same from model to model.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor

from raekit import config
from raekit.data.sample import Pixels
from raekit.data.transforms import to_uint8
from raekit.errors import UserError
from raekit.metrics import READERS
from raekit.registry import nearest_hint

INSTALL = "install Tesseract (Debian: apt install tesseract-ocr) or `pip install 'raekit[ocr]'`"


class Reader(ABC):
    """Reads the text in pictures.

    Attributes:
        at_once: pictures read side by side.
    """

    at_once: ClassVar[int] = 1

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, images: Tensor) -> list[str]:
        """The text in each of the images ``[B,3,H,W]`` in [0,1]; lines and words separated by white space."""
        arrays = to_uint8(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        digests = [hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest() for array in arrays]
        fresh = {digest: array for digest, array in zip(digests, arrays, strict=True) if digest not in self._known}
        with ThreadPoolExecutor(self.at_once) as threads:
            self._known.update(zip(fresh, threads.map(self.read, fresh.values()), strict=True))
        return [self._known[digest] for digest in digests]

    @classmethod
    @abstractmethod
    def is_available(cls) -> bool:
        """Whether what it needs is installed."""

    @abstractmethod
    def describe(self) -> str:
        """Name and version, for the report."""

    @abstractmethod
    def read(self, pixels: Pixels) -> str:
        """The text in one picture ``[H,W,3]``."""


class Tesseract(Reader):
    """Tesseract, when its program is installed."""

    at_once = os.cpu_count() or 1

    class Config(config.Config):
        """How pictures are shown to it."""

        name: Literal["tesseract"] = "tesseract"
        side: int = Field(512, ge=32)
        """Pixels to which a picture's longer side is enlarged at least."""
        page: int = Field(6, ge=0, le=13)
        """Its page segmentation mode; 6 is one block of text."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not self.is_available():
            raise UserError(
                "reader: the program tesseract is not installed; apt install tesseract-ocr, or use rapidocr"
            )
        self.config = config

    @classmethod
    def is_available(cls) -> bool:
        return shutil.which("tesseract") is not None

    def describe(self) -> str:
        version = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout
        return version.splitlines()[0]

    def read(self, pixels: Pixels) -> str:
        picture = enlarged(Image.fromarray(pixels), self.config.side).convert("L")
        # It is at its best with dark letters on a light ground.
        if np.median(np.asarray(picture)) < 128:
            picture = ImageOps.invert(picture)
        encoded = io.BytesIO()
        picture.save(encoded, format="PNG")
        command = ["tesseract", "stdin", "stdout", "--psm", str(self.config.page)]
        # One thread each: several pictures are read side by side.
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(command, input=encoded.getvalue(), capture_output=True, check=True, env=environment)
        return done.stdout.decode(errors="replace")


class RapidOCR(Reader):
    """PP-OCR's networks through rapidocr and onnxruntime; their weights come with the package."""

    class Config(config.Config):
        """How pictures are shown to it."""

        name: Literal["rapidocr"] = "rapidocr"
        side: int = Field(320, ge=32)
        """Pixels to which a picture's longer side is enlarged at least; the finder of text runs at this size."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not self.is_available():
            raise UserError("reader: rapidocr is not installed; pip install 'raekit[ocr]', or install tesseract")
        from rapidocr import RapidOCR as Engine

        self.config = config
        settings = {"Global.log_level": "critical", "Global.use_cls": False, "Det.limit_side_len": config.side}
        self._engine: Any = Engine(params=settings)

    @classmethod
    def is_available(cls) -> bool:
        from importlib.util import find_spec

        return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None

    def describe(self) -> str:
        from importlib.metadata import version

        return f"rapidocr {version('rapidocr')}"

    def read(self, pixels: Pixels) -> str:
        picture = enlarged(Image.fromarray(pixels), self.config.side)
        bgr = np.ascontiguousarray(np.asarray(picture)[..., ::-1])
        return "\n".join(self._engine(bgr).txts or ())


def build_reader(name: str) -> Reader | None:
    """The reader of that name; ``auto`` is the first one that is installed, ``none`` is none.

    Returns:
        None for ``none``, and for ``auto`` where nothing is installed (:data:`INSTALL` says what would help).

    Raises:
        UserError: an unknown name, or one whose program or package is not installed.
    """
    if name == "none":
        return None
    if name == "auto":
        found = next((reader for reader in READERS if READERS[reader].is_available()), None)
        return None if found is None else build_reader(found)
    if name not in READERS:
        raise UserError(f"reader: unknown name {name!r}; {nearest_hint(name, ['auto', 'none', *READERS])}")
    reader: Reader = READERS[name](READERS[name].Config())
    return reader


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side at ``side`` pixels, or as it is where it is larger."""
    scale = side / max(picture.size)
    if scale <= 1:
        return picture
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
