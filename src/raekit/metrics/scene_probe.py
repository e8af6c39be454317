"""The second checker of scenes: a linear readout of a frozen encoder's tokens, trained in seconds.

In: a picture, and the places where the first checker (:mod:`raekit.metrics.scene_templates`) found something. Out: what
is there in the eyes of an encoder. It shares the places with the first checker and nothing else: class and colour come
from the tokens of each place by linear discriminant analysis (Fisher 1936), trained on true pictures of the train
split. Reading single tokens of the whole picture instead was tried, and recognised one in six.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raekit.config import validate
from raekit.data.sample import Pixels
from raekit.data.transforms import to_float
from raekit.encoders import ENCODERS
from raekit.encoders.base import RepresentationEncoder
from raekit.errors import UserError
from raekit.metrics.features import EXACT, TokenMean
from raekit.metrics.scene_check import Found, SceneChecker
from raekit.metrics.scene_templates import TemplateChecker
from raekit.registry import nearest_hint

Place = tuple[float, float, float, float]
"""Left, top, right and bottom in the unit square."""

SURROUNDINGS = 1.08
"""Side of the square crop, relative to the longer side of the thing."""

SHRINKAGE = 0.1
"""Part of the mean variance that is added to each; 0.01 and 0.3 recognise about as much."""

BATCH_SIZE = 64


class Discriminant:
    """Linear discriminant analysis: the class whose centroid is nearest, measured by the scatter within classes.

    Args:
        features: ``[N,D]``; more dimensions than rows are no hindrance.
        names: the class of each row.

    Attributes:
        names: the classes, sorted.
    """

    def __init__(self, features: Tensor, names: Sequence[str]) -> None:
        self.names = sorted(set(names))
        indices = torch.tensor([self.names.index(name) for name in names])
        values = features.double()
        self._mean = values.mean(dim=0)
        values = values - self._mean
        member = torch.nn.functional.one_hot(indices, len(self.names)).double()
        centroids = member.T @ values / member.sum(dim=0)[:, None]
        within = values - centroids[indices]
        count = len(values)
        added = SHRINKAGE * float(within.square().mean()) + 1e-12
        # (W'W / n + s I)^-1 C' by Woodbury's identity, with a matrix of rows and not of dimensions to be solved.
        gram = within @ within.T + count * added * torch.eye(count, dtype=torch.float64)
        self._slopes = (centroids.T - within.T @ torch.linalg.solve(gram, within @ centroids.T)) / added
        self._offsets = -0.5 * (centroids.T * self._slopes).sum(dim=0)

    def __call__(self, features: Tensor) -> Tensor:
        """The probability of each class, ``[N,C]``, all being equally likely beforehand."""
        odds: Tensor = (features.double() - self._mean) @ self._slopes + self._offsets
        return odds.softmax(dim=1)


class SceneProbe(SceneChecker):
    """The learned checker; see the module's docstring.

    Args:
        finder: says where something is.
        encoder: frozen; sees each place as a picture of its own.
        scenes: true pictures to learn from, and what stands where in them, as
            :meth:`raekit.data.scenes.Scenes.draw` tells it.
    """

    name = "probe"

    def __init__(
        self,
        finder: TemplateChecker,
        encoder: RepresentationEncoder,
        scenes: Iterable[tuple[Pixels, Sequence[dict[str, Any]]]],
    ) -> None:
        self.finder, self.encoder = finder, encoder
        crops, kinds, colours = [], [], []
        for image, truth in scenes:
            height, width, _ = image.shape
            for thing in truth:
                left, top, right, bottom = thing["box"]
                crops.append(self._crop(image, (left / width, top / height, right / width, bottom / height)))
                kinds.append(str(thing["class"]))
                colours.append(thing["color"])
        features = self._read(crops)
        tinted = [index for index, colour in enumerate(colours) if colour is not None]
        self._kind = Discriminant(features, kinds)
        self._colour = Discriminant(features[tinted], [str(colours[index]) for index in tinted])
        self.num_crops = len(crops)

    def describe(self) -> dict[str, Any]:
        return {**self.encoder.fingerprint(), "crops": self.num_crops}

    def look(self, images: Sequence[Pixels]) -> list[list[Found]]:
        places = [[thing.box for thing in self.finder.things(image)] for image in images]
        crops = [self._crop(image, box) for image, boxes in zip(images, places, strict=True) for box in boxes]
        if not crops:
            return [[] for _ in images]
        features = self._read(crops)
        kinds, colours = self._kind(features), self._colour(features)
        named = iter(zip(*kinds.max(dim=1), colours.argmax(dim=1), strict=True))
        return [[self._found(box, *next(named)) for box in boxes] for boxes in places]

    def _found(self, box: Place, score: Tensor, kind: Tensor, colour: Tensor) -> Found:
        return Found(self._kind.names[int(kind)], self._colour.names[int(colour)], box, float(score))

    def _crop(self, image: Pixels, place: Place) -> Pixels:
        """A square around ``place`` at the encoder's input size; what lies outside of the picture repeats its edge."""
        height, width, _ = image.shape
        left, right, top, bottom = place[0] * width, place[2] * width, place[1] * height, place[3] * height
        half = max(right - left, bottom - top) * SURROUNDINGS / 2
        room = math.ceil(half) + 1
        padded = np.pad(image, ((room, room), (room, room), (0, 0)), mode="edge")
        x, y = (left + right) / 2 + room, (top + bottom) / 2 + room
        size = (self.encoder.input_size, self.encoder.input_size)
        square = (x - half, y - half, x + half, y + half)
        return np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC, square))

    @torch.no_grad()
    def _read(self, crops: Sequence[Pixels]) -> Tensor:
        """All tokens of each crop, one after another: ``[N, N_tokens * D]`` on the CPU."""
        device = next(self.encoder.parameters()).device
        parts = []
        for first in range(0, len(crops), BATCH_SIZE):
            stacked = torch.from_numpy(np.stack(crops[first : first + BATCH_SIZE])).permute(0, 3, 1, 2)
            parts.append(self.encoder(to_float(stacked.to(device))).flatten(1).float().cpu())
        return torch.cat(parts)


def build_encoder(text: str, device: torch.device | str = "cpu") -> RepresentationEncoder:
    """The encoder of the second checker.

    Args:
        text: a registered encoder's name, or ``NAME=PATH`` for its directory or hub id.
        device: where it is put.

    Raises:
        UserError: an unknown name, or weights that are not there.
    """
    name, _, path = text.partition("=")
    if name not in ENCODERS:
        raise UserError(f"encoder: unknown name {name!r}; {nearest_hint(name, list(ENCODERS))}")
    settings = {"name": name, **EXACT} | ({"path": path} if path else {})
    chosen: TokenMean.Config = validate(TokenMean.Config, {"encoder": settings}, f"encoder {name!r}")
    encoder: RepresentationEncoder = ENCODERS.build(chosen.encoder)
    return encoder.to(device)
