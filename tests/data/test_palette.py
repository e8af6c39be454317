from __future__ import annotations

import pytest

from raekit.data.palette import GENEVAL_COLOURS, PALETTE, contrasting, luminance


def test_luminance_spans_the_range() -> None:
    assert luminance((0, 0, 0)) == 0
    assert luminance((255, 255, 255)) == pytest.approx(255)
    assert luminance((0, 255, 0)) > luminance((255, 0, 0)) > luminance((0, 0, 255))


@pytest.mark.parametrize("name", sorted(PALETTE))
def test_every_colour_has_a_contrast(name: str) -> None:
    found = contrasting(name, 85)
    assert found
    assert name not in found
    assert all(abs(luminance(PALETTE[other]) - luminance(PALETTE[name])) >= 85 for other in found)


def test_the_colours_are_those_of_geneval() -> None:
    assert set(GENEVAL_COLOURS) == set("red orange yellow green blue purple pink brown black white".split())
