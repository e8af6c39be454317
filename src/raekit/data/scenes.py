"""Composed scenes, without end: emoji sprites placed so that a caption is true, with the truth kept.

In: emoji shards and (seed, index). Out: GenEval-like pictures (one thing, two things, a count, a colour, a relation,
two colours) whose metadata states every class, colour and box. This is the "synthetic" part of a data mix in the sense
of Scale-RAE (section 2), and a benchmark of composition whose answers are known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from raekit.data.palette import PALETTE, Colour
from raekit.data.sample import BadSample, Endless, Pixels, Sample, SourceConfig
from raekit.data.scene_objects import GENEVAL_CLASSES, OBJECT_GROUPS
from raekit.data.scene_plan import TASKS, PlannedObject, ScenePlan, Task, plan_scene
from raekit.data.shards import Shards
from raekit.errors import UserError

_log = logging.getLogger(__name__)

Box = tuple[int, int, int, int]

SCENE_STREAM = 3
"""Keeps the chance of scenes apart from that of other things made with the same seed."""


class Scenes(Endless):
    """Several emoji composed to a picture, with a caption true of it and without end.

    Raises:
        UserError: the shards hold too few sprites to compose anything.
    """

    is_mirrorable = False
    is_croppable = False

    class Config(SourceConfig):
        """Which sprites, which tasks, and how large the picture is."""

        name: Literal["scenes"] = "scenes"
        path: Path
        """Emoji shards, as `raekit prepare data emoji` makes them."""
        sprites: str | None = "train"
        """Split of the shards whose drawings are used; null for all."""
        split: Literal["train", "test"] = "train"
        """"train" leaves a tenth of the pairs of classes and of (colour, class) out; "test" draws only those."""
        vocabulary: Literal["geneval", "objects"] = "geneval"
        """The classes of GenEval that have an emoji, or every animal, food, vehicle, sport and object."""
        tasks: tuple[Task, ...] = Field(TASKS, min_length=1)
        """Kinds of scene, drawn in equal shares."""
        size: int = Field(128, ge=32, le=2048)
        """Height and width in pixels."""
        seed: int = 0
        """Another seed is another endless set."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._shards = Shards(Shards.Config(path=config.path, split=config.sprites))
        self.sprites = _index_sprites(self._shards, config.vocabulary)
        """Style to class to the sprites that show it, as indices into the shards."""
        if not self.sprites:
            raise UserError(f"path {config.path}: no style there draws two classes of {config.vocabulary!r}")
        self._styles = sorted(self.sprites)
        self._kinds = {style: sorted(self.sprites[style]) for style in self._styles}
        self._sprite = lru_cache(maxsize=4096)(self._load_sprite)

    def __getitem__(self, index: int) -> Sample:
        cfg = self.config
        generator = np.random.default_rng([SCENE_STREAM, cfg.seed, index])
        style = self._styles[int(generator.integers(len(self._styles)))]
        task = cfg.tasks[int(generator.integers(len(cfg.tasks)))]
        plan = plan_scene(task, self._kinds[style], cfg.split, generator)
        canvas, truth = self.draw(plan.objects, style, generator)
        return Sample(canvas, f"a picture of {plan.caption}", f"{index:09d}", _described(plan, style, truth, cfg.split))

    def draw(
        self, objects: Sequence[PlannedObject], style: str, generator: np.random.Generator
    ) -> tuple[Pixels, list[dict[str, Any]]]:
        """A picture ``[size, size, 3]`` of ``objects`` in a style that draws all their classes; what stands where."""
        canvas = draw_background(self.config.size, {thing.colour for thing in objects}, generator)
        truth = []
        for thing in objects:
            choices = self.sprites[style][thing.kind]
            sprite = self.sprite(choices[int(generator.integers(len(choices)))])
            box = place(canvas, sprite, thing, generator)
            truth.append({"class": thing.kind, "color": thing.colour, "box": list(box)})
        return canvas, truth

    def sprite(self, index: int) -> Pixels:
        """One of :attr:`sprites`, RGBA ``[h, w, 4]``, cut to what can be seen of it."""
        return self._sprite(index)

    def _load_sprite(self, index: int) -> Pixels:
        """One drawing, cut to what can be seen of it."""
        image = self._shards[index].image
        if image.shape[2] == 3:
            raise UserError(f"path {self.config.path}: {self._shards.keys[index]} is not cut out; use emoji shards")
        rows, columns = np.nonzero(image[..., 3] > 8)
        if not len(rows):
            raise BadSample(f"{self._shards.keys[index]}: nothing of this sprite can be seen")
        return image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _described(plan: ScenePlan, style: str, truth: list[dict[str, Any]], split: str) -> dict[str, Any]:
    captions = [
        plan.caption,
        f"a photo of {plan.caption}",
        f"{plan.caption}, {style}",
        f"an emoji scene of {plan.caption}",
    ]
    return {
        "alternatives": captions,
        "tag": plan.task,
        "include": plan.include,
        "objects": truth,
        "style": style,
        "split": split,
    }


def _index_sprites(shards: Shards, vocabulary: str) -> dict[str, dict[str, list[int]]]:
    """Style to class to indices, for styles that draw at least two classes."""
    class_of = {concept: name for name, concept in GENEVAL_CLASSES.items()}
    found: dict[str, dict[str, list[int]]] = {}
    for index in range(len(shards)):
        try:
            facts = shards.metadata(index)
        except BadSample as error:
            _log.warning("sprite left out: %s", error)
            continue
        if vocabulary == "geneval":
            name = class_of.get(facts.get("concept", ""))
        else:
            name = facts.get("label_text") if facts.get("group") in OBJECT_GROUPS else None
        if name is not None and "style" in facts:
            found.setdefault(facts["style"], {}).setdefault(name, []).append(index)
    return {style: kinds for style, kinds in found.items() if len(kinds) >= 2}


def draw_background(size: int, tints: set[str | None], generator: np.random.Generator) -> Pixels:
    """A plain or gently graded ground, ``[size, size, 3]``: pale, or of middle brightness under anything white."""
    bright = (0.4, 0.6) if "white" in tints else (0.86, 1.0)
    hue, saturation = generator.random(), generator.uniform(0.0, 0.25)
    ends = [_hsv(hue, saturation, generator.uniform(*bright)) for _ in range(2)]
    if generator.random() < 0.5:
        return np.broadcast_to(np.asarray(ends[0], np.uint8), (size, size, 3)).copy()
    ramp = np.linspace(0, 1, size)[:, None]
    line = np.asarray(ends[0]) * (1 - ramp) + np.asarray(ends[1]) * ramp
    grid = np.broadcast_to(line[:, None], (size, size, 3))
    return np.ascontiguousarray(grid if generator.random() < 0.5 else grid.transpose(1, 0, 2)).astype(np.uint8)


def place(canvas: Pixels, sprite: Pixels, thing: PlannedObject, generator: np.random.Generator) -> Box:
    """Draw ``sprite`` into its cell of ``canvas``, in place.

    Returns:
        Left, top, right and bottom in pixels; right and bottom exclusive.
    """
    size = canvas.shape[0]
    left, top, right, bottom = (edge * size for edge in thing.cell)
    room = min(right - left, bottom - top)
    scale = room * generator.uniform(0.6, 0.92) / max(sprite.shape[:2])
    height, width = (max(1, round(side * scale)) for side in sprite.shape[:2])
    x = round(generator.uniform(left, right - width))
    y = round(generator.uniform(top, bottom - height))
    x, y = min(x, size - width), min(y, size - height)
    # Premultiplied ("RGBa") while scaling, or the hidden colour of clear pixels bleeds into the edges.
    scaled = Image.fromarray(sprite).convert("RGBa").resize((width, height), Image.Resampling.BICUBIC).convert("RGBA")
    pixels = np.asarray(scaled)
    colour = pixels[..., :3] if thing.colour is None else tint(pixels, PALETTE[thing.colour])
    alpha = pixels[..., 3:].astype(np.float32) / 255
    below = canvas[y : y + height, x : x + width]
    canvas[y : y + height, x : x + width] = np.rint(colour * alpha + below * (1 - alpha)).astype(np.uint8)
    return x, y, x + width, y + height


def tint(sprite: Pixels, colour: Colour) -> Pixels:
    """Repaint ``[h, w, 4]`` in one colour, its light and shade kept: ``[h, w, 3]``.

    The median luminance of the drawing becomes ``colour`` itself; darker parts go towards black, lighter towards white.
    """
    shade = sprite[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    seen = sprite[..., 3] > 128
    pivot = float(np.clip(np.median(shade[seen]) if seen.any() else 0.5, 0.25, 0.85))
    base = np.asarray(colour, np.float32)
    darker = (shade / pivot).clip(0, 1)[..., None]
    lighter = ((shade - pivot) / (1 - pivot)).clip(0, 1)[..., None] * 0.7
    return np.rint(base * (0.35 + 0.65 * darker) * (1 - lighter) + 255 * lighter).clip(0, 255).astype(np.uint8)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    """Hue, saturation and value in [0, 1] to 8-bit RGB."""
    offsets = (5.0, 3.0, 1.0)
    channels = [value - value * saturation * max(0.0, min(k := (n + hue * 6) % 6, 4 - k, 1.0)) for n in offsets]
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue
