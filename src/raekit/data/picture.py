"""One picture of any kind as the square that a latent space takes.

In: a file, a PIL image, an array or a tensor, of any size and shape, with or without transparency. Out: uint8
``[3,S,S]``: on white, centre-cropped to a square as training crops, and scaled; or stretched, so that all is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from raekit.data.decode import ALPHA_MODES, decode_image, to_pixels
from raekit.data.palette import Colour
from raekit.data.sample import BadSample, Pixels
from raekit.data.transforms import centre_crop, compose, resize, to_chw

WHITE: Colour = (255, 255, 255)

Picture = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, a PIL image, or numbers: floats in [0,1] or bytes, ``[3,H,W]`` or ``[H,W,3]``, one to four channels."""


def read_square(picture: Picture, size: int, crop: Literal["centre", "stretch"] = "centre") -> Tensor:
    """Any picture as uint8 ``[3,size,size]``.

    Raises:
        BadSample: a file that is missing or no picture, or numbers that are none.
    """
    return square(_pixels(picture), size, crop)


def square(pixels: Pixels, size: int, crop: Literal["centre", "stretch"] = "centre") -> Tensor:
    """``[H,W,3 or 4]`` on white, centre-cropped and scaled, or stretched: uint8 ``[3,size,size]``."""
    whole = compose(pixels, WHITE)
    fitted = centre_crop(whole, size) if crop == "centre" else resize(whole, size, size)
    return torch.from_numpy(to_chw(fitted).copy())


def _pixels(picture: Picture) -> Pixels:
    if isinstance(picture, str | Path):
        try:
            content = Path(picture).expanduser().read_bytes()
        except OSError as error:
            raise BadSample(f"{picture}: cannot be read ({error.strerror})") from None
        return decode_image(content, str(picture))
    if isinstance(picture, Image.Image):
        if picture.mode == "F" or picture.mode.startswith("I"):
            return to_pixels(np.asarray(picture), "image")
        has_alpha = picture.mode in ALPHA_MODES or "transparency" in picture.info
        return np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
    if isinstance(picture, Tensor):
        values = picture.detach().cpu()
        picture = (values.float() if values.is_floating_point() else values).numpy()
    return to_pixels(picture, "image")
