"""Readers: the contract with a reader made up here, the installed ones on a plain sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from raekit.data.sample import Pixels
from raekit.errors import UserError
from raekit.metrics import READERS, readers
from raekit.metrics.readers import Reader, build_reader, enlarged


class Counting(Reader):
    """Reads how bright a picture is, and counts how often it was asked."""

    calls = 0

    @classmethod
    def is_available(cls) -> bool:
        return True

    def describe(self) -> str:
        return "counting 1"

    def read(self, pixels: Pixels) -> str:
        self.calls += 1
        return str(pixels.max())


def sign(text: str, ink: str, ground: str) -> Tensor:
    """``[1,3,64,128]`` in [0,1]."""
    picture = Image.new("RGB", (128, 64), ground)
    ImageDraw.Draw(picture).text((12, 16), text, fill=ink, font=ImageFont.load_default(24))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def test_each_picture_is_read_once() -> None:
    reader = Counting()
    images = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4), torch.zeros(3, 4, 4)])
    assert reader(images) == ["0", "255", "0"]
    assert reader(images[:1]) == ["0"]
    assert reader.calls == 2


@pytest.mark.parametrize("name", ["tesseract", pytest.param("rapidocr", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("ink", "ground"), [("black", "white"), ("yellow", "navy")])
def test_a_plain_sign_is_read(name: str, ink: str, ground: str) -> None:
    if not READERS[name].is_available():
        pytest.skip(f"{name} is not installed")
    reader = build_reader(name)
    assert reader is not None
    assert name in reader.describe()
    assert reader(sign("RIVER 42", ink, ground))[0].split() == ["RIVER", "42"]


def test_auto_is_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "READERS", {"absent": Counting, "present": Counting})
    monkeypatch.setattr(Counting, "is_available", classmethod(lambda cls: False))
    assert build_reader("auto") is None
    assert build_reader("none") is None


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown name 'tesserract'; did you mean 'tesseract'"):
        build_reader("tesserract")
    for name in READERS:
        monkeypatch.setattr(READERS[name], "is_available", classmethod(lambda cls: False))
        with pytest.raises(UserError, match="not installed"):
            build_reader(name)


def test_small_pictures_are_enlarged_and_large_ones_left() -> None:
    assert enlarged(Image.new("RGB", (64, 32)), 128).size == (128, 64)
    assert enlarged(Image.new("RGB", (300, 32)), 128).size == (300, 32)
