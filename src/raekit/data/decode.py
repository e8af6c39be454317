"""Encoded pictures and plain arrays to uint8 pixels, whatever they were.

In: the bytes of a WebP, PNG, JPEG, GIF (its first frame), BMP or TIFF, or an array of numbers. Out: ``[H, W, 3]``, or
``[H, W, 4]`` where there is transparency, upright even if a camera was not. Grey, palette, CMYK and one-bit pictures
become RGB; 16-bit and float ones are scaled to 8 bits rather than clipped. What comes from the web holds anything, so
whatever is no such picture is a :class:`~raekit.data.sample.BadSample` that says what it is instead, and only these
formats are ever tried: others (PostScript, for one) start other programs.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raekit.data.sample import BadSample, Pixels

IMAGE_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff")
VECTOR_SUFFIXES = (".svg", ".svgz")
"""Drawings without pixels: readers leave them out and say how many there were."""

MAX_PIXELS = 1 << 27
"""134 million, half a gigabyte when decoded: a larger picture is refused by its header, before it takes the memory."""

_FORMATS = ("WEBP", "PNG", "JPEG", "GIF", "BMP", "TIFF")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, ArithmeticError, LookupError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's readers raise on bytes that are no whole picture; they share no base class."""


def decode_image(content: bytes, name: str) -> Pixels:
    """The pixels of an encoded picture.

    Raises:
        BadSample: the bytes are no picture, end too early, hold NaN, or would be too large; ``name`` is in the message.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            check_size(*picture.size, name)
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode == "F" or picture.mode.startswith("I"):
                return to_pixels(np.asarray(picture), name)
            has_alpha = picture.mode in ALPHA_MODES or "transparency" in picture.info
            return np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
    except UnidentifiedImageError:
        raise BadSample(f"{name}: {_what_it_is(content)}") from None
    except _BROKEN as error:
        raise BadSample(f"{name}: cannot be decoded ({error})") from None


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a picture by its size alone.

    Raises:
        BadSample: more than :data:`MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise BadSample(f"{name}: {width} x {height} = {width * height:,} pixels, more than {MAX_PIXELS:,}")


def to_pixels(values: NDArray[Any], name: str) -> Pixels:
    """An array of numbers as a picture.

    Args:
        values: ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` with one to four channels: grey, grey and alpha, RGB, RGBA.
            Bytes and smaller integers are taken as they are and 16 bits are scaled down; floats count from 0 to 1, or
            from 0 to 255 where one of them is above 1.
        name: whose values they are.

    Raises:
        BadSample: not the shape of a picture, too large, NaN or infinite, or outside those ranges.
    """
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim == 3 and values.shape[2] > 4 and values.shape[0] <= 4:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or not 1 <= values.shape[2] <= 4 or 0 in values.shape or values.dtype.kind not in "buif":
        raise BadSample(f"{name}: an array of {values.dtype} {list(values.shape)} is no picture")
    check_size(values.shape[1], values.shape[0], name)
    return _with_colour(_to_bytes(values, name))


def _to_bytes(values: NDArray[Any], name: str) -> Pixels:
    """The same values between 0 and 255."""
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all():
        raise BadSample(f"{name}: holds NaN or infinity")
    low, high = values.min(), values.max()
    top = 255
    if values.dtype.kind == "f" or values.dtype == np.bool_:
        top = 1 if high <= 1 else 255
    elif values.dtype == np.uint16 or high > 255:
        top = 65535
    if low < 0 or high > top:
        raise BadSample(f"{name}: values from {low} to {high}, where 0 to 1, 255 or 65535 were expected")
    return np.rint(values.astype(np.float64) * (255 / top)).astype(np.uint8)


def _with_colour(pixels: Pixels) -> Pixels:
    """``[H, W, 1 to 4]`` to ``[H, W, 3 or 4]``."""
    if pixels.shape[2] >= 3:
        return pixels
    return np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)


def _what_it_is(content: bytes) -> str:
    """Bytes that no reader knows, named as far as their beginning tells."""
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "is empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a picture"
    if start.startswith(b"<") and b"<svg" in start:
        return "is a vector drawing (SVG); render it to PNG first"
    return f"is no {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} picture"
