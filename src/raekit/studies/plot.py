"""Lines over a handful of places, drawn with Pillow: enough to see which one rises.

In: panels of named lines. Out: one PIL image. Places on the x axis are evenly spaced and named; bars are standard
errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from raekit.evaluate.figures import Mean

WIDTH, HEIGHT = 520, 360
"""Of a panel's axes, pixels."""
LEFT, TOP, BELOW, RIGHT = 56, 40, 46, 24
"""Room around them."""
FONT_SIZE, LINE = 14, 20

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
MOST_TICKS = 6


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        places: names on the x axis, from the left.
        lines: by label, a value for each place; None leaves a gap.
        x_label: below it.
    """

    title: str
    places: Sequence[str]
    lines: Mapping[str, Sequence[Mean | None]]
    x_label: str = ""


def draw_panels(panels: Sequence[Panel]) -> Image.Image:
    """Panels side by side, each with its own scale and a legend below."""
    legend = LINE * max(len(panel.lines) for panel in panels)
    step = LEFT + WIDTH + RIGHT
    picture = Image.new("RGB", (step * len(panels), TOP + HEIGHT + BELOW + legend + 10), "white")
    for number, panel in enumerate(panels):
        _Axes(ImageDraw.Draw(picture), panel, step * number + LEFT).draw()
    return picture


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, a handful of them."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    size = next(step for factor in (1, 2, 5, 10) if (step := power * factor) * MOST_TICKS >= span)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [index * size for index in range(first, max(last, first + 1) + 1)]


class _Axes:
    """One panel on the picture."""

    def __init__(self, draw: ImageDraw.ImageDraw, panel: Panel, left: int) -> None:
        self.pen, self.panel, self.left = draw, panel, left
        self.font = ImageFont.load_default(FONT_SIZE)
        found = [mean for line in panel.lines.values() for mean in line if mean is not None]
        lows = [mean.value - mean.standard_error for mean in found] or [0.0]
        highs = [mean.value + mean.standard_error for mean in found] or [1.0]
        self.ticks = ticks(min(lows), max(highs))

    def draw(self) -> None:
        self.pen.text((self.left, 10), self.panel.title, fill="black", font=self.font)
        bottom = TOP + HEIGHT
        for value in self.ticks:
            y = self._y(value)
            self.pen.line((self.left, y, self.left + WIDTH, y), fill="#dddddd")
            self.pen.text((self.left - 6, y), f"{value:.4g}", fill="black", font=self.font, anchor="rm")
        for index, place in enumerate(self.panel.places):
            self.pen.text((self._x(index), bottom + 6), place, fill="black", font=self.font, anchor="ma")
        middle = (self.left + WIDTH / 2, bottom + 24)
        self.pen.text(middle, self.panel.x_label, fill="black", font=self.font, anchor="ma")
        self.pen.rectangle((self.left, TOP, self.left + WIDTH, bottom), outline="black")
        for number, (label, line) in enumerate(self.panel.lines.items()):
            self._line(line, COLOURS[number % len(COLOURS)])
            y = bottom + BELOW + LINE * number + LINE / 2
            self.pen.line((self.left, y, self.left + 26, y), fill=COLOURS[number % len(COLOURS)], width=3)
            self.pen.text((self.left + 34, y), label, fill="black", font=self.font, anchor="lm")

    def _line(self, line: Sequence[Mean | None], colour: str) -> None:
        points = [(self._x(index), mean) for index, mean in enumerate(line) if mean is not None]
        self.pen.line([(x, self._y(mean.value)) for x, mean in points], fill=colour, width=2)
        for x, mean in points:
            y, low, high = (self._y(mean.value + sign * mean.standard_error) for sign in (0, -1, 1))
            self.pen.line((x, low, x, high), fill=colour)
            self.pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)

    def _x(self, index: int) -> float:
        return self.left + WIDTH * (index + 0.5) / len(self.panel.places)

    def _y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return TOP + HEIGHT * (high - value) / (high - low)
