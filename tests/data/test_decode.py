from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from raekit.data.decode import decode_image
from raekit.data.sample import BadSample


def encode(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form)
    return buffer.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 3), ("RGBA", 4)])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_modes_become_rgb_or_rgba(form: str, mode: str, channels: int) -> None:
    pixels = decode_image(encode(Image.new(mode, (5, 4)), form), "x")
    assert pixels.shape == (4, 5, channels)
    assert pixels.dtype == np.uint8


def test_grey_jpeg_becomes_rgb() -> None:
    assert decode_image(encode(Image.new("L", (5, 4)), "JPEG"), "x").shape == (4, 5, 3)


def test_a_palette_with_a_clear_colour_becomes_rgba() -> None:
    picture = Image.new("P", (2, 2))
    picture.info["transparency"] = 0
    assert decode_image(encode(picture, "PNG"), "x").shape == (2, 2, 4)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("kept", [0, 20, 0.6])
def test_broken_pictures_are_bad_samples(form: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    content = encode(Image.fromarray(noise), form)
    cut = content[: int(len(content) * kept) if kept < 1 else int(kept)]
    with pytest.raises(BadSample, match=r"shard\.tar:key"):
        decode_image(cut, "shard.tar:key")
