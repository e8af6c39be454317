"""A folder of drawn pictures with captions: eight coloured shapes, made in an instant."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange")
SHAPES = ("circle", "square")


def pictures(folder: Path, size: int = 32) -> Path:
    """``folder`` filled with ``red_circle.png`` and ``red_circle.txt``, ... eight pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        for shape in SHAPES:
            image = Image.new("RGB", (size, size), "white")
            draw = ImageDraw.Draw(image)
            box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
            (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colour)
            image.save(folder / f"{colour}_{shape}.png")
            (folder / f"{colour}_{shape}.txt").write_text(f"a {colour} {shape}")
    return folder


def data(folder: Path, size: int = 32) -> dict[str, object]:
    """The ``data`` block of a recipe that reads :func:`pictures`."""
    return {"image_size": size, "mixture": [{"name": "folder", "path": str(pictures(folder, size))}]}
