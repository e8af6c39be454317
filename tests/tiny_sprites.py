"""A shard of cut-out shapes under the names of GenEval classes, as emoji shards have them; all drawn here.

In: a path. Out: a tar of twelve classes in one style, each a shape and a colour of its own, one of them held out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from raekit.data.scenes import Scenes
from raekit.data.tar import TarWriter

SIZE = 48
STYLE = "flat shape"
HELD_OUT = "bus"

Colour = tuple[int, int, int, int]
Draw = Callable[[ImageDraw.ImageDraw, Colour], None]

SHAPES: dict[str, Draw] = {
    "dog": lambda draw, fill: draw.ellipse((2, 2, 45, 45), fill=fill),
    "cat": lambda draw, fill: draw.rectangle((2, 2, 45, 45), fill=fill),
    "horse": lambda draw, fill: draw.polygon([(24, 2), (45, 45), (2, 45)], fill=fill),
    "cow": lambda draw, fill: draw.polygon([(2, 2), (45, 2), (24, 45)], fill=fill),
    "banana": lambda draw, fill: draw.pieslice((2, 2, 45, 45), 20, 290, fill=fill),
    "carrot": lambda draw, fill: draw.polygon([(2, 24), (45, 2), (45, 45)], fill=fill),
    "pizza": lambda draw, fill: draw.ellipse((2, 2, 45, 45), outline=fill, width=9),
    "chair": lambda draw, fill: draw.rectangle((2, 2, 45, 45), outline=fill, width=9),
    "bed": lambda draw, fill: draw.line([(2, 6), (2, 42), (45, 42)], fill=fill, width=14),
    "toilet": lambda draw, fill: draw.line([(4, 4), (43, 43), (24, 24), (4, 43)], fill=fill, width=9),
    "scissors": lambda draw, fill: draw.regular_polygon((24, 24, 22), 5, fill=fill),
    "bus": lambda draw, fill: draw.rounded_rectangle((2, 12, 45, 36), 6, fill=fill),
}


def sprite(name: str) -> Image.Image:
    """One shape, RGBA, on clear ground."""
    picture = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    number = list(SHAPES).index(name)
    SHAPES[name](ImageDraw.Draw(picture), (200 - 15 * number, 30 + 12 * number, (90 + 60 * number) % 200, 255))
    return picture


def shard(path: Path) -> Path:
    """``path`` written as a tar of all shapes."""
    with TarWriter(path) as tar:
        for name in SHAPES:
            encoded = io.BytesIO()
            sprite(name).save(encoded, format="WEBP", lossless=True)
            split = "test_concept" if name == HELD_OUT else "train"
            facts = {"caption": name, "concept": name, "label_text": name, "style": STYLE, "split": split}
            tar.add(name, {".webp": encoded.getvalue(), ".json": json.dumps({**facts, "group": "objects"}).encode()})
    return path


def scenes(directory: Path, size: int = 64, sprites: str | None = "train") -> Scenes:
    """Scenes of these shapes."""
    path = directory / "shapes.tar"
    if not path.exists():
        shard(path)
    return Scenes(Scenes.Config(path=path, size=size, sprites=sprites, split="test"))
