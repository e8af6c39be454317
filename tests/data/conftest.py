"""Pictures of our own: every test of this folder draws what it reads."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from raekit.data.tar import TarWriter


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=form, **({"lossless": True} if form == "WEBP" else {}))
    return buffer.getvalue()


def plain(value: int, size: int = 8) -> np.ndarray:
    """A picture of one grey value, by which a test recognises it."""
    return np.full((size, size, 3), value, np.uint8)


@pytest.fixture
def write_shard(tmp_path) -> Callable[..., Path]:
    """Writes a tar of plain pictures: grey value and caption number equal the sample's number."""

    def write(
        name: str = "a.tar", numbers: range = range(6), broken: tuple[int, ...] = (), split: str = "train"
    ) -> Path:
        path = tmp_path / name
        with TarWriter(path) as tar:
            for number in numbers:
                picture = b"no picture at all" if number in broken else encode(plain(number))
                facts = {"caption": f"number {number}", "alternatives": [f"the {number}"], "split": split}
                tar.add(f"s{number:03d}", {".png": picture, ".json": json.dumps(facts).encode()})
        return path

    return write


SPRITES = ("dog", "cat", "horse", "cow", "banana", "carrot", "pizza", "chair", "bed", "toilet", "scissors", "bus")


@pytest.fixture(scope="session")
def sprite_shard(tmp_path_factory) -> Path:
    """A tar of twelve cut-out shapes under the names of GenEval classes, as emoji shards have them."""
    path = tmp_path_factory.mktemp("sprites") / "sprites.tar"
    with TarWriter(path) as tar:
        for number, name in enumerate(SPRITES):
            picture = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
            colour = (40 + 15 * number, 200 - 12 * number, 90, 255)
            ImageDraw.Draw(picture).ellipse((4, 10, 44, 38), fill=colour)
            facts = {"caption": name, "concept": name, "label_text": name, "style": "round emoji", "split": "train"}
            facts["group"] = "objects"
            tar.add(name, {".webp": encode(np.asarray(picture), "WEBP"), ".json": json.dumps(facts).encode()})
    return path
