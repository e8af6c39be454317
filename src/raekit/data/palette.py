"""Colours that have a name: backgrounds, letters, and tints of objects.

In: a name. Out: 8-bit RGB. The ten colours of GenEval (Ghosh et al. 2023) and grey, so that a caption can state every
colour that a picture was given.
"""

from __future__ import annotations

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 215, 50),
    "green": (46, 150, 66),
    "blue": (38, 92, 200),
    "purple": (126, 58, 168),
    "pink": (246, 140, 184),
    "brown": (122, 74, 38),
    "grey": (128, 128, 128),
    "black": (18, 18, 18),
    "white": (255, 255, 255),
}

GENEVAL_COLOURS = tuple(name for name in PALETTE if name != "grey")


def luminance(colour: Colour) -> float:
    """Perceived brightness in [0, 255] (ITU-R BT.601 weights)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def contrasting(colour: str, gap: float) -> list[str]:
    """The names whose luminance lies at least ``gap`` (of 255) from that of ``colour``."""
    here = luminance(PALETTE[colour])
    return [name for name, value in PALETTE.items() if abs(luminance(value) - here) >= gap]
