from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from raekit.data import decode
from raekit.data.decode import decode_image, to_pixels
from raekit.data.sample import BadSample


def encode(picture: Image.Image, form: str, **settings) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **settings)
    return buffer.getvalue()


def colour_of(content: bytes) -> list[int]:
    return decode_image(content, "x")[0, 0].tolist()


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 3), ("RGBA", 4)])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_modes_become_rgb_or_rgba(form: str, mode: str, channels: int) -> None:
    pixels = decode_image(encode(Image.new(mode, (5, 4)), form), "x")
    assert pixels.shape == (4, 5, channels)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "TIFF"])
def test_other_formats_become_rgb(form: str) -> None:
    assert decode_image(encode(Image.new("L", (5, 4)), form), "x").shape == (4, 5, 3)


def test_a_palette_with_a_clear_colour_becomes_rgba() -> None:
    picture = Image.new("P", (2, 2))
    picture.info["transparency"] = 0
    assert decode_image(encode(picture, "PNG"), "x").shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("picture", "form", "expected"),
    [
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "JPEG", [254, 0, 0]),
        (Image.new("CMYK", (2, 2), (255, 0, 255, 0)), "TIFF", [0, 255, 0]),
        (Image.new("1", (2, 2), 1), "PNG", [255, 255, 255]),
        (Image.new("LA", (2, 2), (70, 9)), "PNG", [70, 70, 70, 9]),
        (Image.new("RGB", (2, 2), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", [9, 8, 7]),
        (Image.new("YCbCr", (2, 2), (128, 128, 128)), "TIFF", [128, 128, 128]),
        (Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF", [255, 255, 255]),
    ],
    ids=lambda value: getattr(value, "mode", str(value)),
)
def test_a_mode_keeps_its_colour(picture: Image.Image, form: str, expected: list[int]) -> None:
    assert np.abs(np.array(colour_of(encode(picture, form))) - expected).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form: str) -> None:
    values = np.array([[0, 257, 25700, 65535]], np.uint16)
    pixels = decode_image(encode(Image.fromarray(values), form), "x")
    assert pixels[0, :, 0].tolist() == [0, 1, 100, 255]
    assert pixels.shape == (1, 4, 3)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats_count_to_one_or_to_255(scale: float) -> None:
    values = np.array([[0, 0.2, 1.0]], np.float32) * np.float32(scale)
    assert decode_image(encode(Image.fromarray(values), "TIFF"), "x")[0, :, 1].tolist() == [0, 51, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_bad_samples(value: float) -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[2, 1] = value
    with pytest.raises(BadSample, match=r"a\.tif: holds NaN or infinity"):
        decode_image(encode(Image.fromarray(values), "TIFF"), "a.tif")
    with pytest.raises(BadSample, match="NaN or infinity"):
        to_pixels(np.stack([values] * 3), "x")


def test_a_photo_from_a_turned_camera_is_upright() -> None:
    picture = Image.new("RGB", (16, 8), "black")
    picture.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    pixels = decode_image(encode(picture, "JPEG", exif=exif, quality=95), "x")
    assert pixels.shape == (16, 8, 3)
    assert pixels[:8].mean() > 240 and pixels[8:].mean() < 15


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0, 20, 0.6])
def test_broken_pictures_are_bad_samples(form: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    content = encode(Image.fromarray(noise), form)
    cut = content[: int(len(content) * kept) if kept < 1 else int(kept)]
    with pytest.raises(BadSample, match=r"shard\.tar:key"):
        decode_image(cut, "shard.tar:key")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG", "GIF", "TIFF"])
def test_flipped_bytes_give_pixels_or_a_bad_sample(form: str) -> None:
    generator = np.random.default_rng(1)
    noise = Image.fromarray(generator.integers(0, 255, (9, 11, 3), np.uint8))
    whole = encode(noise, form)
    for _ in range(150):
        content = bytearray(whole)
        for place in generator.integers(0, min(len(content), 300), 3):
            content[place] = generator.integers(256)
        try:
            assert decode_image(bytes(content), "x").dtype == np.uint8
        except BadSample as error:
            assert str(error).startswith("x: ")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "vector drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand --><svg/>", "vector drawing"),
        (b"<!DOCTYPE html><p>404", "web page"),
        (b"", "is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "is no WEBP, PNG, JPEG, GIF, BMP or TIFF picture"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, sentence: str) -> None:
    with pytest.raises(BadSample, match=sentence):
        decode_image(content, "a.png")


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels should begin."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + struct.pack(">I", 99)
        + b"IDAT"
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_huge_picture_is_refused_by_its_header(monkeypatch) -> None:
    """No pixel is decoded: these files have none, which would be an error of its own."""
    content = png_header(40_000, 4_000)
    with pytest.raises(BadSample, match=r"a: 40000 x 4000 = 160,000,000 pixels, more than 134,217,728"):
        decode_image(content, "a")
    with pytest.raises(BadSample, match=r"b: .*800000000 pixels"):
        decode_image(png_header(40_000, 20_000), "b")
    monkeypatch.setattr(decode, "MAX_PIXELS", 20)
    assert decode_image(encode(Image.new("RGB", (4, 5)), "PNG"), "c").shape == (5, 4, 3)
    with pytest.raises(BadSample, match="5 x 5 = 25"):
        decode_image(encode(Image.new("RGB", (5, 5)), "PNG"), "c")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), (2, 3, 3)),
        (np.full((2, 3, 1), True), (2, 3, 3)),
        (np.full((2, 3, 2), 7, np.uint8), (2, 3, 4)),
        (np.full((2, 3, 4), 7, np.int64), (2, 3, 4)),
        (np.full((3, 8, 9), 0.5), (8, 9, 3)),
    ],
)
def test_arrays_of_every_layout(values: np.ndarray, expected: tuple[int, ...]) -> None:
    pixels = to_pixels(values, "x")
    assert pixels.shape == expected
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    "values",
    [np.zeros(4), np.zeros((2, 2, 2, 2)), np.zeros((5, 8, 9)), np.zeros((0, 4, 3)), np.full((2, 2), -1), np.array("a")],
)
def test_other_arrays_are_bad_samples(values: np.ndarray) -> None:
    with pytest.raises(BadSample):
        to_pixels(values, "x")
