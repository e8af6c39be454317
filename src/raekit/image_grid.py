"""Many pictures on one sheet, with captions: what ``raekit generate --grid`` writes and training shows of itself.

In: images ``[N,3,H,W]``, as float in [0,1] or as uint8. Out: one PIL image, row by row; for reconstructions, a row each
of original, reconstruction and difference. Also the bytes of a PNG that remembers how it was made.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

GAP = 4
"""Pixels between pictures and around the sheet."""

FONT_SIZE = 13
CAPTION_HEIGHT = FONT_SIZE + 5

SMALLEST_CELL = 128
"""Pixels: smaller pictures are enlarged by a whole factor on a sheet (never in their own file)."""

DIFFERENCE_GAIN = 2.0
"""How strongly :func:`difference` shows an error; at 2, one of a quarter of the range is black or white."""


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


def comparison_sheet(
    images: Tensor, reconstructions: Tensor, captions: Sequence[str] | None = None, scale: int = 1
) -> Image.Image:
    """A row a picture: original, reconstruction, difference.

    Args:
        images: originals ``[N,3,H,W]`` in [0,1].
        reconstructions: shape of ``images``.
        captions: one per picture, written below its row.
        scale: as for :func:`image_grid`.
    """
    rows = torch.stack([images, reconstructions.clamp(0, 1), difference(reconstructions, images)], dim=1)
    written = None if captions is None else [caption for caption in captions for _ in range(3)]
    return image_grid(rows.flatten(0, 1), 3, written, scale)


def difference(image: Tensor, target: Tensor, gain: float = DIFFERENCE_GAIN) -> Tensor:
    """``image - target`` as a picture in [0,1]: mid-grey where they agree, lighter where the image is too light."""
    return (0.5 + gain * (image.float().clamp(0, 1) - target.float())).clamp(0, 1)


def enlargement(size: int) -> int:
    """The whole factor that brings pictures of ``size`` pixels to about :data:`SMALLEST_CELL` on a sheet."""
    return max(1, SMALLEST_CELL // size)


def encode_png(picture: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a PNG file; ``texts`` become its text fields."""
    info = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG", pnginfo=info)
    return encoded.getvalue()


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
