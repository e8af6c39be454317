"""Emoji with captions: ten sets of drawings, one caption vocabulary, a style phrase per set.

In: iconify's npm packages and ``emojibase-data`` (pinned). Out: shards of square RGBA WebP with captions, tags, licence
and split. About 1,900 concepts drawn in up to ten styles make a small text-to-image set whose two hard cases can be
held out exactly: a concept that was never seen, and a known concept in a known style never seen together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from raekit import config
from raekit.data.attribution import Credit, write_attribution
from raekit.data.builder import Drawn, Dropped, Manifest, build_shards, split_into_parts
from raekit.data.captions import alternative_captions, caption_of
from raekit.data.sources.emoji_labels import TONE, Concept, ConceptTable
from raekit.data.sources.npm import fetch_packages, package_version, read_package
from raekit.data.sources.svg import digest, encode_webp, is_blank, render_resvg, render_skia

Level = Literal["permissive", "attribution", "all"]


@dataclass(frozen=True)
class EmojiSet:
    """One iconify package: its pinned version, the licence level it needs, and the phrase that names its style."""

    version: str
    level: Level
    style: str


SETS: dict[str, EmojiSet] = {
    "fluent-emoji": EmojiSet("1.2.7", "permissive", "glossy 3D emoji"),
    "fluent-emoji-flat": EmojiSet("1.2.6", "permissive", "flat emoji"),
    "noto": EmojiSet("1.2.9", "permissive", "shaded emoji"),
    "noto-v1": EmojiSet("1.2.5", "permissive", "blob emoji"),
    "fxemoji": EmojiSet("1.2.2", "permissive", "cartoon emoji"),
    "twemoji": EmojiSet("1.2.5", "attribution", "simple emoji"),
    "emojione": EmojiSet("1.2.3", "attribution", "detailed emoji"),
    "streamline-emojis": EmojiSet("1.2.4", "attribution", "kawaii emoji"),
    "openmoji": EmojiSet("1.2.29", "all", "outlined emoji"),
    "emojione-v1": EmojiSet("1.2.3", "all", "vintage emoji"),
}
"""MIT and Apache sets are permissive; CC-BY needs attribution; CC-BY-SA (share-alike) only at level "all"."""

LABELS = ("emojibase-data", "17.0.0")
LEVELS: tuple[Level, ...] = ("permissive", "attribution", "all")
SKIA_SETS = frozenset({"fluent-emoji"})
"""Sets full of filters, which Skia draws seven times as fast as resvg and as well; on the others it draws blanks."""


@dataclass(frozen=True)
class Drawing:
    """One work item: an SVG and what is known about it."""

    set_name: str
    name: str
    svg: str
    concept: Concept
    licence: str
    source: str


class Emoji:
    """Emoji of several free sets with captions, from npm: what the nano family learns from."""

    class Config(config.Config):
        """Which drawings, how large, and where they come from."""

        name: Literal["emoji"] = "emoji"
        level: Level = "attribution"
        """Licences admitted: "permissive" (MIT, Apache), "attribution" (and CC-BY), "all" (and CC-BY-SA)."""
        size: int = Field(128, ge=16, le=1024)
        """Height and width in pixels."""
        skin_tones: bool = False
        """Also the five skin-tone variants of each figure, about as many drawings again."""
        samples_per_shard: int = Field(1000, ge=1)
        """Drawings per shard before blanks and duplicates are dropped."""
        node_modules: Path | None = None
        """An npm folder that already holds the packages; by default they are fetched at pinned versions."""
        cache: Path = Path("~/.cache/raekit/npm")
        """Where fetched packages are kept."""
        workers: int = Field(2, ge=1)
        """Drawing processes."""

    def __init__(self, settings: Config) -> None:
        self.config = settings

    def build(self, folder: Path) -> Manifest:
        """Draw the set into ``folder``; continues where an earlier run of the same build stopped."""
        cfg, modules = self.config, self._modules()
        items = list(self._drawings(modules))
        splits: dict[str, list[Drawing]] = {"train": [], "test_pair": [], "test_concept": []}
        for item in items:
            splits[split_of(item.concept.base, item.set_name)].append(item)
        settings = cfg.model_dump(mode="json", exclude={"node_modules", "cache", "workers"})
        settings["packages"] = {f"@iconify-json/{name}": self._version(modules, name) for name in self._sets()}
        settings["packages"][LABELS[0]] = package_version(modules, LABELS[0])
        parts = split_into_parts(splits, cfg.samples_per_shard)
        manifest = build_shards(folder, Manifest("emoji", settings), parts, partial(draw, size=cfg.size), cfg.workers)
        write_attribution(folder, "Emoji", [self._credit(modules, name) for name in self._sets()])
        return manifest

    def _sets(self) -> list[str]:
        allowed = LEVELS[: LEVELS.index(self.config.level) + 1]
        return [name for name, row in SETS.items() if row.level in allowed]

    def _modules(self) -> Path:
        cfg = self.config
        if cfg.node_modules is not None:
            modules = cfg.node_modules.expanduser()
            for name in (*(f"@iconify-json/{name}" for name in self._sets()), LABELS[0]):
                read_package(modules, name)
            return modules
        packages = {f"@iconify-json/{name}": SETS[name].version for name in self._sets()}
        return fetch_packages({**packages, LABELS[0]: LABELS[1]}, cfg.cache.expanduser())

    def _version(self, modules: Path, name: str) -> str:
        return package_version(modules, f"@iconify-json/{name}")

    def _drawings(self, modules: Path) -> Iterator[Drawing]:
        table = ConceptTable.load(read_package(modules, LABELS[0]))
        for name in self._sets():
            package = read_package(modules, f"@iconify-json/{name}")
            licence = _read_json(package / "info.json")["license"]["spdx"]
            source = f"@iconify-json/{name}@{self._version(modules, name)}"
            chars = package / "chars.json"
            icons = read_icons(_read_json(package / "icons.json"), _read_json(chars) if chars.is_file() else {}, table)
            for icon, svg, concept in icons:
                if self.config.skin_tones or not concept.has_tone:
                    yield Drawing(name, icon, svg, concept, licence, source)

    def _credit(self, modules: Path, name: str) -> Credit:
        info = _read_json(read_package(modules, f"@iconify-json/{name}") / "info.json")
        licence = info["license"]
        return Credit(
            title=info["name"],
            author=info["author"]["name"],
            url=info["author"]["url"],
            licence=licence["spdx"],
            licence_url=licence["url"],
            version=f"@iconify-json/{name} {self._version(modules, name)}",
            changes=f"rendered from SVG at {self.config.size} px, captioned",
        )


def read_icons(
    collection: Mapping[str, Any], chars: Mapping[str, str], table: ConceptTable
) -> Iterator[tuple[str, str, Concept]]:
    """Name, SVG text and concept of each drawing of one iconify collection that is visible, joined and not a copy."""
    icons, aliases = collection["icons"], collection.get("aliases", {})
    hexcodes: dict[str, list[str]] = {}
    for code, name in chars.items():
        hexcodes.setdefault(aliases.get(name, {}).get("parent", name), []).append(code)
    other_names: dict[str, list[str]] = {}
    for alias, row in aliases.items():
        if set(row) == {"parent"}:
            other_names.setdefault(row["parent"], []).append(alias)
    bodies: set[str] = set()
    for name in sorted(icons):
        icon = icons[name]
        if icon.get("hidden") or icon["body"] in bodies:
            continue
        concept = table.find(name, hexcodes.get(name, ()), other_names.get(name, ()))
        base = TONE.sub("", name)
        if concept is None or (base != name and base in icons and not concept.has_tone):
            continue
        bodies.add(icon["body"])
        yield name, svg_text(icon, collection), concept


def svg_text(icon: Mapping[str, Any], collection: Mapping[str, Any]) -> str:
    """One iconify entry as a whole SVG document; sizes default to the collection's, then to 16."""
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, width, height = (icon.get(key, collection.get(key, value)) for key, value in defaults.items())
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def split_of(base: str, set_name: str) -> str:
    """Which split a drawing falls in, from its names alone: 5% of the concepts, then 5% of the other pairs."""
    if _bucket(base) < 5:
        return "test_concept"
    return "test_pair" if _bucket(f"{base}|{set_name}") < 5 else "train"


def _bucket(key: str) -> int:
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16) % 100


def draw(item: Drawing, size: int) -> Drawn | Dropped:
    """Render one drawing at ``size`` pixels and write its captions."""
    render = render_skia if item.set_name in SKIA_SETS else render_resvg
    try:
        image = render(item.svg, size)
    except ValueError:
        return Dropped("unreadable")
    if is_blank(image):
        return Dropped("blank")
    concept, style = item.concept, SETS[item.set_name].style
    metadata = {
        "caption": caption_of(concept.label, style),
        "alternatives": alternative_captions(concept.label, style, concept.tags, concept.group),
        "concept": concept.base,
        "label_text": concept.label,
        "tags": list(concept.tags),
        "style": style,
        "group": concept.group,
        "licence": item.licence,
        "source": item.source,
        "set": item.set_name,
        "split": split_of(concept.base, item.set_name),
    }
    return Drawn(f"{item.set_name}_{item.name}", encode_webp(image), metadata, digest(image))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
