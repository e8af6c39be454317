"""Endless sources written down: a fixed number of composed scenes or rendered words as shards.

In: the settings of :class:`~raekit.data.scenes.Scenes` or :class:`~raekit.data.rendered_text.RenderedText`. Out: shards
with a train and a test split, for benchmarks that must not change and for other programs that read WebDataset.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from raekit import config
from raekit.data import DATASETS
from raekit.data.builder import Drawn, Manifest, build_shards, split_into_parts
from raekit.data.sample import Source, SourceConfig
from raekit.data.sources.svg import digest, encode_webp
from raekit.data.text_grounds import GROUNDS, Ground
from raekit.data.text_layouts import KINDS, Kind


class MadeConfig(config.Config):
    """What both builders of endless sources have in common."""

    size: int = Field(128, ge=32, le=2048)
    """Height and width in pixels."""
    num_train: int = Field(10_000, ge=0)
    """Pictures of the train split."""
    num_test: int = Field(1000, ge=0)
    """Pictures of the test split, which holds what the train split leaves out."""
    seed: int = 0
    """Another seed is another set."""
    samples_per_shard: int = Field(1000, ge=1)
    """Pictures per shard."""
    workers: int = Field(1, ge=1)
    """Drawing processes."""


class MadeScenes:
    """Scenes composed of emoji, drawn from shards of `raekit prepare data emoji`."""

    class Config(MadeConfig):
        """Which sprites, how many scenes."""

        name: Literal["scenes"] = "scenes"
        path: Path
        """Emoji shards, as `raekit prepare data emoji` makes them."""
        vocabulary: Literal["geneval", "objects"] = "geneval"
        """See :class:`raekit.data.scenes.Scenes`."""

    def __init__(self, settings: Config) -> None:
        self.config = settings

    def build(self, folder: Path) -> Manifest:
        """Compose the scenes into ``folder``; continues where an earlier run of the same build stopped."""
        return write_source(folder, self.config, {"path": self.config.path, "vocabulary": self.config.vocabulary})


class MadeText:
    """Rendered words on lines, posters and signs, drawn here."""

    class Config(MadeConfig):
        """How many pictures of how many words."""

        name: Literal["rendered_text"] = "rendered_text"
        max_words: int | None = Field(None, ge=1, le=24)
        """Most words in one picture; by default as many as stay legible."""
        layouts: tuple[Kind, ...] = Field(KINDS, min_length=1)
        """See :class:`raekit.data.rendered_text.RenderedText`."""
        grounds: tuple[Ground, ...] = Field(GROUNDS, min_length=1)
        """See :class:`raekit.data.rendered_text.RenderedText`."""
        fonts: Path | Literal["system", "builtin"] = "system"
        """See :class:`raekit.data.rendered_text.RenderedText`."""

    def __init__(self, settings: Config) -> None:
        self.config = settings

    def build(self, folder: Path) -> Manifest:
        """Draw the words into ``folder``; continues where an earlier run of the same build stopped."""
        options = {key: getattr(self.config, key) for key in ("max_words", "layouts", "grounds", "fonts")}
        return write_source(folder, self.config, options)


def write_source(folder: Path, settings: MadeScenes.Config | MadeText.Config, options: dict[str, object]) -> Manifest:
    """Write the train and the test split of an endless source, by its name in the registry."""
    sources = {}
    for split in ("train", "test"):
        given = {**options, "name": settings.name, "size": settings.size, "seed": settings.seed, "split": split}
        sources[split] = DATASETS[settings.name].Config.model_validate(given)
    counts = {"train": settings.num_train, "test": settings.num_test}
    items = {split: [(source, index) for index in range(counts[split])] for split, source in sources.items()}
    parts = split_into_parts(items, settings.samples_per_shard)
    manifest = Manifest(settings.name, settings.model_dump(mode="json", exclude={"workers"}))
    return build_shards(folder, manifest, parts, draw, settings.workers)


def draw(item: tuple[SourceConfig, int]) -> Drawn:
    """The sample of an endless source at one index, encoded."""
    sample = _open(item[0])[item[1]]
    metadata = {"caption": sample.caption, **sample.metadata}
    return Drawn(sample.key, encode_webp(sample.image), metadata, digest(sample.image))


@lru_cache(maxsize=4)
def _open(settings: SourceConfig) -> Source:
    source: Source = DATASETS.build(settings)
    return source
