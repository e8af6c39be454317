"""The first checker of scenes: connected components, and the drawings they resemble.

In: a picture. Out: the things in it. The ground is subtracted, what stands out falls into pieces, and pieces near each
other are tried in every combination: those are taken together that resemble drawings best. Nothing is learned; two
thresholds are chosen on true pictures of the train split (:func:`calibrated`) and told with the scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from raekit import shares
from raekit.data.sample import Pixels
from raekit.data.scene_prompts import ScenePrompt
from raekit.metrics.components import Array, Box, Piece, foreground_of, gap, ground_of, pieces_of
from raekit.metrics.scene_check import ANY, Found, SceneChecker, is_right
from raekit.metrics.templates import SIDE, Match, Templates

LARGEST = 128
"""Pixels: larger pictures are scaled down to this first."""

MOST_PIECES = 6
"""Pieces near each other that are tried in every combination; beyond these, small ones join their neighbours."""

MARGINS = (-0.06, 0.0, 0.06)
"""Crops are taken this much larger than a box, relative to its sides: blur widens boxes, faint edges narrow them."""

NEAR = 0.08
"""Gap between pieces that may belong together, relative to the picture's longer side."""

LEAST_CONTRAST = 0.03
"""Difference from the ground, of 1, that a pixel of a thing has at least: above what rounding to 8 bits leaves."""

CONTRASTS = (4.0, 6.0, 8.0, 12.0)
"""What is tried for :attr:`Thresholds.contrast`."""

CERTAIN = 0.995
"""Share of the things in rightly judged true pictures that :attr:`Thresholds.score` lets pass."""


@dataclass(frozen=True)
class Thresholds:
    """What the checker needs to be told.

    Attributes:
        contrast: how much more a pixel of a thing differs from the ground than the ground does from a plane.
        score: correlation below which something is no known thing.
    """

    contrast: float = 4.0
    score: float = 0.0


class TemplateChecker(SceneChecker):
    """Components and templates; see the module's docstring."""

    name = "templates"

    def __init__(self, templates: Templates, thresholds: Thresholds = Thresholds()) -> None:
        self.templates, self.thresholds = templates, thresholds
        self._known: dict[bytes, list[Found]] = {}

    def describe(self) -> dict[str, Any]:
        return {"drawings": len(self.templates.kinds), **asdict(self.thresholds)}

    def look(self, images: Sequence[Pixels]) -> list[list[Found]]:
        unknown = {digest: image for image in images if (digest := _digest(image)) not in self._known}
        found = shares.each(lambda image: list(self._things(image)), list(unknown.values()))
        self._known |= dict(zip(unknown, found, strict=True))
        return [[one for one in self.things(image) if one.score >= self.thresholds.score] for image in images]

    def things(self, image: Pixels) -> list[Found]:
        """Everything in a picture ``[H,W,3]``, however little it resembles; each picture is looked at once."""
        digest = _digest(image)
        if digest not in self._known:
            self._known[digest] = list(self._things(image))
        return self._known[digest]

    def _things(self, image: Pixels) -> Iterator[Found]:
        picture = _shrunk(image)
        ground, noise = ground_of(picture)
        height, width, _ = picture.shape
        contrast = max(LEAST_CONTRAST, noise * self.thresholds.contrast)
        pieces = pieces_of(foreground_of(picture, ground, contrast))
        for cluster in clusters(pieces, NEAR * max(height, width)):
            for piece, match in self._resolve(cluster, picture - ground, ground):
                left, top, right, bottom = piece.box
                box = (left / width, top / height, right / width, bottom / height)
                yield Found(match.kind, match.colour, box, match.score)

    def _resolve(self, cluster: list[Piece], difference: Array, ground: Array) -> list[tuple[Piece, Match]]:
        """The partition of ``cluster`` into things whose correlations, weighted by area, sum to most."""
        size = 1 << len(cluster)
        chosen = [[piece for bit, piece in enumerate(cluster) if number >> bit & 1] for number in range(1, size)]
        groups = [_joined(pieces) for pieces in chosen]
        matches = self._match(groups, difference, ground)
        best: list[tuple[float, list[int]]] = [(0.0, [])]
        for left in range(1, size):
            first = left & -left  # some group holds the first of the pieces that are left
            options = [number for number in _subsets(left) if number & first]
            gains = [best[left ^ n][0] + matches[n - 1].score * groups[n - 1].area for n in options]
            group = options[int(np.argmax(gains))]
            best.append((max(gains), [group, *best[left ^ group][1]]))
        return [(groups[number - 1], matches[number - 1]) for number in best[-1][1]]

    def _match(self, pieces: Sequence[Piece], difference: Array, ground: Array) -> list[Match]:
        """What each piece resembles, at the better of several margins."""
        crops, grounds, shapes = [], [], []
        everything = np.any([piece.mask for piece in pieces], axis=0)
        for piece, margin in product(pieces, MARGINS):
            left, top, right, bottom = piece.box
            others = everything & ~piece.mask
            crops.append(_crop(np.where(others[..., None], np.float32(0), difference), piece.box, margin))
            grounds.append(ground[top:bottom, left:right].mean(axis=(0, 1)))
            shapes.append(math.log((right - left) / (bottom - top)))
        matches = self.templates.match(np.stack(crops), np.stack(grounds), shapes)
        each = len(MARGINS)
        return [max(matches[i : i + each], key=lambda match: match.score) for i in range(0, len(matches), each)]


def _digest(image: Pixels) -> bytes:
    return sha256(repr(image.shape).encode() + image.tobytes()).digest()


class AttributeChecker(SceneChecker):
    """Numbers and colours alone: the things of the first checker, whatever they are.

    A generator learns these long before its things are recognised. Of the tasks it tells something of counting and
    colours; elsewhere everything is right that has things in it, and chance is as high.
    """

    name = "attributes"
    tasks = ("counting", "colors", "color_attr")

    def __init__(self, first: TemplateChecker) -> None:
        self.first = first

    def describe(self) -> dict[str, Any]:
        return {"contrast": self.first.thresholds.contrast}

    def look(self, images: Sequence[Pixels]) -> list[list[Found]]:
        return [[replace(thing, kind=ANY) for thing in self.first.things(image)] for image in images]


def calibrated(templates: Templates, cases: Sequence[tuple[ScenePrompt, Pixels]]) -> TemplateChecker:
    """The checker whose contrast judges most true pictures right, and whose score lets their things pass.

    Args:
        templates: what to compare with.
        cases: prompts of the train split, each with a picture of which it is true.
    """

    def right(checker: TemplateChecker) -> list[list[Found]]:
        found = checker.look([image for _, image in cases])
        return [things for (prompt, _), things in zip(cases, found, strict=True) if is_right(prompt, things)]

    tried = [(TemplateChecker(templates, Thresholds(contrast)), contrast) for contrast in CONTRASTS]
    judged = [(right(checker), contrast) for checker, contrast in tried]
    best, contrast = max(judged, key=lambda pair: len(pair[0]))
    return TemplateChecker(templates, Thresholds(contrast, lowest_score(best)))


def lowest_score(found: Sequence[Sequence[Found]]) -> float:
    """The score that :data:`CERTAIN` of these things reach; 0 where there are none."""
    scores = [thing.score for things in found for thing in things]
    return float(np.quantile(scores, 1 - CERTAIN)) if scores else 0.0


def clusters(pieces: Sequence[Piece], near: float) -> list[list[Piece]]:
    """Pieces that may belong together: those within ``near`` pixels of each other, and theirs."""
    found: list[list[Piece]] = []
    for piece in pieces:
        touching = [cluster for cluster in found if any(gap(piece.box, other.box) <= near for other in cluster)]
        merged = [piece, *(other for cluster in touching for other in cluster)]
        found = [cluster for cluster in found if cluster not in touching] + [merged]
    return [_few(cluster) for cluster in found]


def _few(cluster: list[Piece]) -> list[Piece]:
    """At most :data:`MOST_PIECES`: the smallest joins its nearest neighbour until it is so."""
    pieces = sorted(cluster, key=lambda piece: -piece.area)
    while len(pieces) > MOST_PIECES:
        small = pieces.pop()
        nearest = min(range(len(pieces)), key=lambda index: gap(small.box, pieces[index].box))
        pieces[nearest] = pieces[nearest].with_(small)
    return pieces


def _joined(pieces: Sequence[Piece]) -> Piece:
    return Piece.of(np.any([piece.mask for piece in pieces], axis=0))


def _subsets(number: int) -> Iterator[int]:
    """All nonempty subsets of the bits of ``number``, itself first."""
    subset = number
    while subset:
        yield subset
        subset = (subset - 1) & number


def _crop(difference: Array, box: Box, margin: float) -> Array:
    """``box`` of ``[H,W,3]``, grown by a part of its sides, as ``[T,T,3]``; outside of the picture is ground."""
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    room = math.ceil(max(across, down, 0))
    padded = np.pad(difference, ((room, room), (room, room), (0, 0)))
    grown = (left - across + room, top - down + room, right + across + room, bottom + down + room)
    channels = [Image.fromarray(np.ascontiguousarray(padded[..., channel])) for channel in range(3)]
    small = [np.asarray(c.resize((SIDE, SIDE), Image.Resampling.BOX, grown)) for c in channels]
    return np.stack(small, axis=-1)


def _shrunk(image: Pixels) -> Array:
    """``[H,W,3]`` in [0,1], its longer side at most :data:`LARGEST`."""
    scale = LARGEST / max(image.shape[:2])
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return image.astype(np.float32) / np.float32(255)
