"""SVG drawings to square RGBA pictures.

In: SVG text. Out: uint8 ``[size, size, 4]`` with straight alpha, centred, or nothing where the drawing is blank.
resvg is the reference renderer; Skia is an order of magnitude faster on drawings full of filters.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image

from raekit.data.sample import Pixels
from raekit.errors import UserError

INSTALL_LINE = "pip install 'raekit[data]'"


def render_resvg(svg: str, size: int) -> Pixels:
    """Render with resvg-py; raises ``ValueError`` where it cannot read the drawing."""
    try:
        import resvg_py
    except ImportError:
        raise UserError(f"resvg-py: not installed, and it renders the drawings; run {INSTALL_LINE}") from None
    # dpi must be given: with the default of 0 every drawing sized in points is refused as "invalid size".
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, dpi=96.0, skip_system_fonts=True)
    return pad_to_square(np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA")), size)


def render_skia(svg: str, size: int) -> Pixels:
    """Render with skia-python; raises ``ValueError`` where it cannot read the drawing."""
    try:
        import skia
    except ImportError:
        raise UserError(f"skia-python: not installed, and it renders fluent-emoji; run {INSTALL_LINE}") from None
    # The stream must copy: it keeps no reference to the bytes, and a collected buffer gives a drawing at random.
    drawing: Any = skia.SVGDOM.MakeFromStream(skia.MemoryStream(svg.encode(), True))
    if drawing is None:
        raise ValueError("skia cannot parse this SVG")
    surface = skia.Surface(size, size)
    canvas = surface.getCanvas()
    canvas.clear(0)
    box = drawing.containerSize()
    scale = min(size / box.width(), size / box.height())
    canvas.translate((size - scale * box.width()) / 2, (size - scale * box.height()) / 2)
    canvas.scale(scale, scale)
    drawing.render(canvas)
    return np.ascontiguousarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType))


def pad_to_square(image: Pixels, size: int) -> Pixels:
    """Centre ``[h, w, 4]`` on a transparent square, and clear hidden colour."""
    # Keeping the aspect ratio, the renderer rounds the other side up, to a pixel or two above the size asked for.
    image = image[:size, :size]
    height, width = image.shape[:2]
    square = np.zeros((size, size, 4), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = image
    square[square[..., 3] == 0] = 0
    return square


def is_blank(image: Pixels) -> bool:
    """Whether nothing can be seen: no pixel has more than 3% alpha."""
    return bool(image[..., 3].max() < 8)


def digest(image: Pixels) -> str:
    """A short name of the pixels, by which equal pictures are found."""
    return hashlib.md5(image.tobytes(), usedforsecurity=False).hexdigest()


def encode_webp(image: Pixels) -> bytes:
    """Lossless WebP, alpha kept: backgrounds are chosen when the picture is read."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", lossless=True, quality=60, method=3)
    return buffer.getvalue()


def is_flat(image: Pixels) -> bool:
    """Whether all that can be seen has one colour and covers the whole square."""
    seen = image[image[..., 3] > 8]
    return len(seen) == image.shape[0] * image.shape[1] and bool((np.ptp(seen, axis=0) < 6).all())
