"""Many pictures on one sheet, with captions: what ``raekit generate --grid`` writes and training shows of itself.

In: images ``[N,3,H,W]``, as float in [0,1] or as uint8. Out: one PIL image, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 4
"""Pixels between pictures and around the sheet."""

FONT_SIZE = 13
CAPTION_HEIGHT = FONT_SIZE + 5


def image_grid(images: Tensor, columns: int, captions: Sequence[str] | None = None, scale: int = 1) -> Image.Image:
    """Pictures row by row on white.

    Args:
        images: ``[N,3,H,W]``, float in [0,1] (clamped) or uint8; any device.
        columns: pictures per row, at least 1; the last row may be shorter.
        captions: one per picture, written below it, cut to fit. Neighbours in a row that share one get it once,
            across all of them.
        scale: whole factor by which each picture is enlarged, without smoothing.

    Raises:
        ValueError: no pictures, no columns, or captions that do not match the pictures in number.
    """
    if not len(images) or columns < 1:
        raise ValueError(f"images, columns: need at least one of each, got {len(images)} and {columns}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"captions: {len(captions)} for {len(images)} images")
    pictures = [
        Image.fromarray(array).resize((array.shape[1] * scale, array.shape[0] * scale), Image.Resampling.NEAREST)
        for array in to_arrays(images)
    ]
    width, height = pictures[0].size
    step_x, step_y = width + GAP, height + GAP + (CAPTION_HEIGHT if captions else 0)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (GAP + columns * step_x, GAP + rows * step_y), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (GAP + index % columns * step_x, GAP + index // columns * step_y))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for first, count in _runs(captions or [], columns):
        corner = (GAP + first % columns * step_x, GAP + first // columns * step_y + height + 1)
        draw.text(corner, _fitting((captions or [])[first], count * step_x - GAP, font), fill="black", font=font)
    return sheet


def to_arrays(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Images ``[N,3,H,W]`` (float in [0,1], clamped and rounded; or uint8) as an array ``[N,H,W,3]`` of bytes."""
    if images.is_floating_point():
        images = images.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _runs(captions: Sequence[str], columns: int) -> Iterator[tuple[int, int]]:
    """(first index, length) of each run of equal captions within a row."""
    first = 0
    for index in range(1, len(captions) + 1):
        if index == len(captions) or index % columns == 0 or captions[index] != captions[first]:
            yield first, index - first
            first = index


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """``text`` on one line, its end replaced by an ellipsis where it is wider than ``width`` pixels."""
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line.rstrip()}…"
