from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from raekit.data.sources import svg
from raekit.errors import UserError

HALF = '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 2 1">{body}</svg>'
RED_LEFT = '<rect width="1" height="1" fill="#f00"/>'


@pytest.fixture(params=["resvg_py", "skia"])
def render(request):
    pytest.importorskip(request.param)
    return {"resvg_py": svg.render_resvg, "skia": svg.render_skia}[request.param]


def test_a_wide_drawing_is_centred_on_a_clear_square(render) -> None:
    image = render(HALF.format(w=2, h=1, body=RED_LEFT), 16)
    assert image.shape == (16, 16, 4)
    assert image[8, 2].tolist() == [255, 0, 0, 255]
    assert (image[:4] == 0).all()
    assert (image[12:] == 0).all()
    assert (image[:, 9:] == 0).all()


def test_sizes_in_points_are_understood() -> None:
    """The renderer's own default for the resolution, 0, refuses them."""
    pytest.importorskip("resvg_py")
    image = svg.render_resvg(HALF.format(w="20pt", h="10pt", body=RED_LEFT), 16)
    assert image[8, 2].tolist() == [255, 0, 0, 255]


def test_what_is_no_drawing_is_a_value_error(render) -> None:
    with pytest.raises(ValueError):
        render("<svg", 16)


@pytest.mark.parametrize(("module", "function"), [("resvg_py", svg.render_resvg), ("skia", svg.render_skia)])
def test_a_missing_renderer_is_named_with_its_install_line(monkeypatch, module: str, function) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'raekit\[data\]'"):
        function(HALF.format(w=2, h=1, body=""), 16)


def test_blank_flat_and_drawn() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    full = np.full((4, 4, 4), 255, np.uint8)
    dot = clear.copy()
    dot[1, 1] = 255
    assert [svg.is_blank(image) for image in (clear, full, dot)] == [True, False, False]
    assert [svg.is_flat(image) for image in (full, dot)] == [True, False]


@pytest.mark.parametrize("size", [16, 31, 128])
@pytest.mark.parametrize("height", ["9.99", "10.01", "10.6"])
def test_sides_that_round_to_more_than_the_size_are_cut(size: int, height: str) -> None:
    pytest.importorskip("resvg_py")
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="{height}"><rect width="9" height="9"/></svg>'
    assert svg.render_resvg(drawing, size).shape == (size, size, 4)


def test_padding_clears_colour_that_cannot_be_seen() -> None:
    image = np.full((2, 4, 4), 9, np.uint8)
    image[..., 3] = 0
    assert svg.pad_to_square(image, 4).sum() == 0


def test_encoding_loses_nothing_and_digests_tell_pictures_apart() -> None:
    image = np.random.default_rng(0).integers(1, 255, (8, 8, 4), np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(svg.encode_webp(image)))), image)
    other = image.copy()
    other[0, 0, 0] ^= 1
    assert svg.digest(image) == svg.digest(image.copy()) != svg.digest(other)
