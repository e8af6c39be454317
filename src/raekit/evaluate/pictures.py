"""The pictures of an evaluation, each of them once.

In: data sets. Out: :class:`Page`, a batch of pictures with what is known about each. Training replaces an unreadable
picture by its neighbour and repeats the smaller sources of a mixture; here, both would count a picture twice, so what
has been seen already is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from raekit import shares
from raekit.config import read_recipe, validate
from raekit.data import DATASETS
from raekit.data.dataset import DataConfig, Dataset, build_dataset, pictures_of, read_readable
from raekit.data.loader import Batch, Loader
from raekit.data.mixture import Place
from raekit.data.sample import Sample
from raekit.errors import UserError

FEWEST = 2
"""Pictures: a mean of fewer has no standard error."""

SMALLEST_MADE = 32
"""Pixels: pictures made on the fly are drawn at least this large, and then scaled down."""

RECIPE_KEYS = ("held_out", "data")
"""Where a recipe has its pictures, those it was not trained on first."""

R = TypeVar("R")


@dataclass(frozen=True)
class Page:
    """One batch of an evaluation.

    Attributes:
        image: uint8 ``[B,3,S,S]``.
        captions: one a picture.
        labels: class indices, -1 where there is none.
        domains: names of the sources.
        texts: the words that a picture shows; empty where none are known.
        first: number of the first of them among all pictures of the evaluation.
    """

    image: Tensor
    captions: list[str]
    labels: list[int]
    domains: list[str]
    texts: list[str]
    first: int = 0

    def __len__(self) -> int:
        return len(self.captions)


class Pictures:
    """The first pictures of some data sets.

    Args:
        datasets: one after another; where one mixes several sources, each is a domain of its own.
        num_images: most pictures of each data set.
        batch_size: most pictures in a page; changes memory and speed only.

    Attributes:
        num_skipped: readings that failed so far.
        num_repeated: pictures left out so far because they had been seen.

    Raises:
        UserError: fewer than two pictures in all; also while reading, once it turns out.
    """

    def __init__(self, datasets: Sequence[Dataset], num_images: int, batch_size: int = 64) -> None:
        self.datasets, self.batch_size = list(datasets), batch_size
        self._counts = [min(num_images, len(dataset)) for dataset in datasets]
        self.num_skipped = self.num_repeated = 0
        if len(self) < FEWEST:
            raise UserError(_too_few(len(self)))

    def __len__(self) -> int:
        """Pictures at most: those that are unreadable or repeated are still counted."""
        return sum(self._counts)

    def describe(self) -> dict[str, int]:
        """Most pictures of each data set, by the names of its domains."""
        names = ["+".join(domain.name for domain in dataset.mixture.domains) for dataset in self.datasets]
        return dict(zip(names, self._counts, strict=True))

    def pages(self, with_texts: bool = False) -> Iterator[Page]:
        """Every picture once; where processes share (:func:`raekit.shares.sharing`), those of this process.

        Args:
            with_texts: look up the words that pictures show, for which each such picture is read a second time.
        """
        for page in self._rounds(with_texts):
            yield from page

    def each(self, look: Callable[[Page], R], with_texts: bool = False) -> Iterator[R]:
        """``look(page)`` of every page in order, shared out as :func:`raekit.shares.each` does.

        Args:
            look: computes by itself.
            with_texts: as for :meth:`pages`.
        """
        for page in self._rounds(with_texts):
            yield from shares.in_order(look, page, "a page")

    def _rounds(self, with_texts: bool) -> Iterator[list[Page]]:
        """This process's page of each round; none where it has nothing to look at."""
        self.num_skipped = self.num_repeated = measured = 0
        for dataset, count in zip(self.datasets, self._counts, strict=True):
            seen: set[tuple[str, str]] = set()
            texts = _Texts(dataset)
            loader = Loader(dataset, min(count, self.batch_size), stop=count)
            cuts = [range(first, min(first + loader.batch_size, count)) for first in range(0, count, loader.batch_size)]
            batches = (batch for _, batch in loader.at(shares.own(cuts)))
            for _ in range(shares.num_rounds(cuts)):
                batch = next(batches, None)
                kept, first = list[int](), measured
                # What a picture is counted as depends on those before it, which others may have read.
                for rank, names in enumerate(shares.gathered(_names(batch), "what was read")):
                    new = _unseen(names.keys, seen)
                    self.num_skipped += names.num_skipped
                    self.num_repeated += len(names.keys) - len(new)
                    if rank == shares.rank():
                        kept, first = new, measured
                    measured += len(new)
                positions = [] if batch is None else [int(batch.positions[index]) for index in kept]
                found = texts.at(positions) if with_texts else [""] * len(kept)
                yield [_page(batch, kept, found, first)] if batch is not None and kept else []
        if measured < FEWEST:
            raise UserError(_too_few(measured))


@dataclass(frozen=True)
class _Names:
    """What all processes must know of a batch: domain and key of each picture, and failed readings."""

    keys: list[tuple[str, str]]
    num_skipped: int


class _Texts:
    """The words that the pictures of a data set show, by position."""

    def __init__(self, dataset: Dataset) -> None:
        self._mixture = dataset.mixture
        self._wordless: dict[int, bool] = {}

    def at(self, positions: Sequence[int]) -> list[str]:
        """The words at this process's positions of a round; a source whose first picture shows none is not asked
        again."""
        places = [self._mixture.locate(position) for position in positions]
        firsts: dict[int, str] = {}
        for place in places:
            if place.domain not in self._wordless and place.domain not in firsts:
                firsts[place.domain] = self._read(place)
        for found in shares.gathered(firsts, "words"):
            for domain, text in found.items():
                self._wordless.setdefault(domain, not text)
        return ["" if self._wordless[place.domain] else self._read(place) for place in places]

    def _read(self, place: Place) -> str:
        sample, _ = read_readable(self._mixture.domains[place.domain], place.index)
        return text_of(sample)


def text_of(sample: Sample) -> str:
    """The words that a picture shows, where its metadata tells them and a caption quotes them; else nothing.

    Other data sets keep their captions under the same key, so that alone it proves nothing.
    """
    text = sample.metadata.get("text")
    is_quoted = isinstance(text, str) and any(f'"{text}"' in caption for caption in sample.captions)
    return str(text) if is_quoted else ""


def open_pictures(names: Sequence[str], image_size: int, split: str | None = None) -> list[Dataset]:
    """Data sets as a user names them, each a domain under its own name.

    Args:
        names: folders of pictures or shards, tars, recipes (their ``held_out`` or ``data``), or sources that are made
            on the fly, such as ``rendered_text``, of which the test split is taken.
        image_size: side of the pictures.
        split: of shards; None = all.

    Raises:
        UserError: no such data, or a recipe without any.
    """
    return [build_dataset(_settings_of(name, image_size, split)) for name in names]


def _settings_of(name: str, image_size: int, split: str | None) -> DataConfig:
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml"):
        recipe = read_recipe(path)
        key = next((key for key in RECIPE_KEYS if recipe.get(key)), None)
        if key is None:
            raise UserError(f"recipe {name!r}: has no {' or '.join(RECIPE_KEYS)} section to read pictures from")
        block = {**recipe[key], "image_size": image_size, "shuffle": False}
        settings: DataConfig = validate(DataConfig, block, f"{name}, {key}")
        return settings
    if not path.exists() and name in DATASETS:
        source = {"name": name, "size": max(image_size, SMALLEST_MADE), "split": split or "test"}
        made: DataConfig = validate(DataConfig, {"mixture": [source], "image_size": image_size}, name)
        return made
    if not path.exists():
        raise UserError(f"data {name!r}: no such folder, tar or recipe, and no source of that name")
    found = pictures_of(path, split, image_size)
    named = tuple(source.model_copy(update={"domain": path.resolve().stem}) for source in found.mixture)
    return found.model_copy(update={"mixture": named})


def _too_few(count: int) -> str:
    return f"num: {count} different pictures are too few for a mean and its error; measure at least {FEWEST}"


def _names(batch: Batch | None) -> _Names:
    if batch is None:
        return _Names([], 0)
    return _Names(list(zip(batch.domains, batch.keys, strict=True)), batch.num_skipped)


def _unseen(names: Sequence[tuple[str, str]], seen: set[tuple[str, str]]) -> list[int]:
    """Indices of the pictures that were not seen before; those without a key always count as new."""
    kept = []
    for index, name in enumerate(names):
        if name[1] and name in seen:
            continue
        seen.add(name)
        kept.append(index)
    return kept


def _page(batch: Batch, kept: list[int], texts: list[str], first: int) -> Page:
    labels = [-1] * len(batch) if batch.labels is None else batch.labels.tolist()
    return Page(
        image=batch.image[torch.tensor(kept)],
        captions=[batch.captions[index] for index in kept],
        labels=[labels[index] for index in kept],
        domains=[batch.domains[index] for index in kept],
        texts=texts,
        first=first,
    )
