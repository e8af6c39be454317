"""Encoded pictures to uint8 arrays.

In: the bytes of a WebP, PNG or JPEG. Out: ``[H, W, 3]``, or ``[H, W, 4]`` where the file has transparency.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from raekit.data.sample import BadSample, Pixels

IMAGE_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")


def decode_image(content: bytes, name: str) -> Pixels:
    """The pixels of an encoded picture.

    Raises:
        BadSample: the bytes are no picture, or end too early; ``name`` is in the message.
    """
    # Pillow reports broken files as OSError, SyntaxError (PNG chunks), ValueError or a decompression bomb.
    try:
        with Image.open(io.BytesIO(content)) as picture:
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            return np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadSample(f"{name}: cannot be decoded ({error})") from None
