"""The data section of a recipe: which sources, what size, which caption; one item for every position.

In: a recipe's ``data`` block. Out: :class:`Dataset`, which maps a global position to a square uint8 picture with one
caption. All chance in it (crop, mirror, background, caption) comes from (seed, position), so that an item depends
neither on the batch it falls in nor on the rank that reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from pydantic import Field, field_validator

from raekit import config
from raekit.config import component
from raekit.data import DATASETS
from raekit.data.captions import with_article
from raekit.data.labels import Labels
from raekit.data.mixture import Domain, Mixture, domain_names
from raekit.data.palette import PALETTE
from raekit.data.quarantine import Skipped, first_usable, left_out_of
from raekit.data.sample import ENDLESS, Pixels, Sample, Source, SourceConfig
from raekit.data.transforms import CHANCE_CROPS, Crop, compose, mirror, to_chw, to_square
from raekit.data.wrapped import Checked, InMemory

if TYPE_CHECKING:
    SourceChoice = SourceConfig
else:
    SourceChoice = component(DATASETS)

T = TypeVar("T")

ITEM_STREAM = 2
"""Keeps the chance of items apart from that of orders and of sources made on the fly, which use the same seed."""


@dataclass(frozen=True)
class Item:
    """What a position holds.

    Attributes:
        image: uint8 ``[3, size, size]``.
        caption: one caption.
        key: the sample's name within its domain.
        domain: the source's name.
        label: class index, or -1 where there is none.
        skipped: each sample that could not be used on the way here, and why.
    """

    image: Pixels
    caption: str
    key: str
    domain: str
    label: int
    skipped: tuple[Skipped, ...] = ()

    @property
    def num_skipped(self) -> int:
        """Unusable samples passed over to get here."""
        return len(self.skipped)


class DataConfig(config.Config):
    """The ``data`` block of a recipe."""

    mixture: tuple[SourceChoice, ...] = Field(min_length=1)
    """The sources, each with its ``weight``."""
    image_size: int = Field(256, ge=8)
    """Height and width of the pictures in pixels."""
    crop: Crop = "centre"
    """How a picture becomes square: "centre" (ADM), "random" (ADM), "zoomed" (RAE's decoders: a square of two thirds of
    the short side, anywhere), or "stretch". Letters and scenes are never cut into."""
    mirror: bool = False
    """Flip half the pictures left to right, but never letters or scenes whose caption says left and right."""
    background: str = "white"
    """Behind pictures with transparency: the name of a colour, or "random", which the caption then states."""
    captions: Literal["canonical", "short", "any"] = "canonical"
    """Always the canonical caption; that or the shortest one, evenly; or any of a sample's captions."""
    labels: Labels | None = None
    """Where classes come from; None = the sources' own class indices, where they have any."""
    min_side: int = Field(8, ge=1)
    """Pictures whose shorter side has fewer pixels are passed over like unreadable ones."""
    shuffle: bool = True
    """A new random order each epoch; false keeps each source's own order, for evaluation."""
    in_memory: bool = False
    """Keep decoded pictures of finite sources in memory after their first use (3 or 4 bytes a pixel)."""

    @field_validator("background")
    @classmethod
    def _check_background(cls, value: str) -> str:
        if value != "random" and value not in PALETTE:
            raise ValueError(f"must be random or one of {', '.join(PALETTE)}")
        return value


class Dataset:
    """Items by position; see the module's docstring.

    Args:
        settings: the ``data`` block.
        seed: of orders, crops, backgrounds and captions.
        is_captioned: pass over samples without a caption.
    """

    Config = DataConfig

    def __init__(self, settings: DataConfig, seed: int = 0, is_captioned: bool = False) -> None:
        self.config, self.is_captioned = settings, is_captioned
        domains = []
        for name, source_config in zip(domain_names(settings.mixture), settings.mixture, strict=True):
            source: Source = DATASETS.build(source_config)
            if not source.is_drawn:
                source = Checked(source, settings.min_side, is_captioned)
            if settings.in_memory and not source.is_endless:
                source = InMemory(source)
            domains.append(Domain(name, source, source_config.weight))
        self._use(domains, seed)

    def _use(self, domains: list[Domain], seed: int) -> None:
        self.seed = seed
        self.mixture = Mixture(domains, seed, self.config.shuffle)

    def with_seed(self, seed: int) -> Dataset:
        """The same sources in another order and with other crops; nothing is opened or read again."""
        other = copy.copy(self)
        other._use(self.mixture.domains, seed)
        return other

    def __len__(self) -> int:
        """Positions after which every finite source has been gone through; :data:`ENDLESS` if there is none."""
        return self.mixture.epoch_length or ENDLESS

    def __getitem__(self, position: int) -> Item:
        place = self.mixture.locate(position)
        domain = self.mixture.domains[place.domain]
        sample, skipped = read_readable(domain, place.index)
        generator = np.random.default_rng([ITEM_STREAM, self.seed, position])
        source, crop = domain.source, self.config.crop
        crop = "centre" if crop in CHANCE_CROPS and not source.is_croppable else crop
        image, ground = self._picture(sample, crop, self.config.mirror and source.is_mirrorable, generator)
        caption = self._caption(sample, ground, generator)
        return Item(image, caption, sample.key, domain.name, self.label_of(sample), skipped)

    @property
    def left_out(self) -> tuple[Skipped, ...]:
        """What the sources found unusable when they were opened; no position leads there."""
        return left_out_of({domain.name: domain.source.left_out for domain in self.mixture.domains})

    def caption(self, position: int) -> str:
        """The caption at a position, as its item has it."""
        return self[position].caption

    def label_of(self, sample: Sample) -> int:
        """The class index of a sample, -1 where it has none; errors as :meth:`Labels.label_of`."""
        if self.config.labels is not None:
            return self.config.labels.label_of(sample)
        return -1 if sample.label is None else sample.label

    def captions_of(self, sample: Sample) -> list[str]:
        """The captions that training may give a sample, background not counted."""
        if self.config.captions == "short":
            return [sample.caption, min(sample.captions, key=len)]
        return sample.captions if self.config.captions == "any" else sample.captions[:1]

    def choose_caption(self, captions: Sequence[T], position: int) -> T:
        """Which of :meth:`captions_of`, or of what stands for them, the item at ``position`` has.

        Only where nothing about its picture is random.
        """
        generator = np.random.default_rng([ITEM_STREAM, self.seed, position])
        return captions[int(generator.integers(len(captions)))]

    def picture_of(self, sample: Sample) -> Pixels:
        """``[3, size, size]`` of a sample, where nothing about its picture is random."""
        return self._picture(sample, self.config.crop, False, np.random.default_rng(0))[0]

    def _picture(
        self, sample: Sample, crop: Crop, is_mirrorable: bool, generator: np.random.Generator
    ) -> tuple[Pixels, str | None]:
        """``[3, size, size]``, and the name of the background where it was chosen at random."""
        cfg, ground = self.config, None
        image = sample.image
        if image.shape[2] == 4:
            ground = str(generator.choice(list(PALETTE))) if cfg.background == "random" else None
            image = compose(image, PALETTE[ground or cfg.background])
        image = to_square(image, cfg.image_size, crop, generator)
        if is_mirrorable and generator.random() < 0.5:
            image = mirror(image)
        return to_chw(image), ground

    def _caption(self, sample: Sample, ground: str | None, generator: np.random.Generator) -> str:
        choices = self.captions_of(sample)
        number = int(generator.integers(len(choices)))
        return choices[number] if ground is None else f"{choices[number]} on {with_article(ground)} background"


def read_readable(domain: Domain, index: int) -> tuple[Sample, tuple[Skipped, ...]]:
    """The sample at ``index``, or the next one that can be used, and what was passed over.

    Raises:
        UserError: too many in a row cannot be used.
    """
    source = domain.source
    return first_usable(source.__getitem__, index, len(source), domain.name, source.key_of)


def build_dataset(settings: DataConfig, seed: int = 0, is_captioned: bool = False) -> Dataset:
    """The dataset of a recipe's ``data`` block; arguments as for :class:`Dataset`."""
    return Dataset(settings, seed, is_captioned)


def pictures_of(path: Path, split: str | None, image_size: int) -> DataConfig:
    """Settings that read every picture of a folder once, in its own order: shards if it holds tars, else files.

    Args:
        path: the folder, or one tar.
        split: of shards; None = all.
        image_size: side of the pictures.
    """
    is_shards = path.suffix == ".tar" or any(path.glob("*.tar"))
    source = {"name": "shards", "path": path, "split": split} if is_shards else {"name": "folder", "path": path}
    return DataConfig.model_validate({"mixture": [source], "image_size": image_size, "shuffle": False})
