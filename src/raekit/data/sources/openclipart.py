"""Open Clip Art: public-domain drawings with the captions that their makers typed.

In: Debian's ``openclipart-svg``. Out: shards of square RGBA WebP whose captions are as noisy as the web's: Italian
titles, numbered titles, tags of any use. It is the "web" part of a small data mix, in the sense of Scale-RAE (section
2). Left out are shapes, icon packs and playing cards (thousands of near-copies under one title), weapons and erotica,
and every file that does not state a public-domain dedication.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from raekit import config
from raekit.data.attribution import Credit, write_attribution
from raekit.data.builder import Drawn, Dropped, Manifest, build_shards, split_into_parts
from raekit.data.sources.debian import fetch_packages, package_version
from raekit.data.sources.svg import digest, encode_webp, is_blank, is_flat, render_resvg
from raekit.errors import UserError

PACKAGE = "openclipart-svg"
ROOT = Path("usr/share/openclipart/svg")

LEFT_OUT_FOLDERS = re.compile(
    r"shapes/(stars|jigsaw|flowchart)|special/(gradients|patterns)|signs_and_symbols/led|computer/icons"
    r"|recreation/games/cards|people/clothing/pantyhose|tools/weapons|unsorted/duplicates"
)
LEFT_OUT_WORDS = re.compile(
    r"\b(gun|guns|pistol|rifle|revolver|grenade|bomb|bullet\w*|sword|weapon\w*|kill\w*|blood\w*|nude\w*|naked|sexy?|porn\w*"
    r"|erotic\w*|babe|pantyhose|bikini|swastika|nazi|suicide|marijuana|cannabis)\b",
    re.IGNORECASE,
)
NOISE_TAGS = frozenset({"hash", "unsorted", "clip_art", "clipart", "media", "", "svg", "png", "image"})

MAX_SAME_TITLE = 10
"""A title given to more drawings than this names their pack, not what they show."""


@dataclass(frozen=True)
class ClipArt:
    """One drawing and what its file says of it."""

    path: Path
    place: str
    title: str
    tags: tuple[str, ...]
    description: str
    creator: str
    is_public_domain: bool


class OpenClipArt:
    """Drawings of Open Clip Art, in the public domain, with captions."""

    class Config(config.Config):
        """How large, and where the drawings come from."""

        name: Literal["openclipart"] = "openclipart"
        size: int = Field(256, ge=16, le=1024)
        """Height and width in pixels."""
        samples_per_shard: int = Field(1000, ge=1)
        """Drawings per shard before blanks and duplicates are dropped."""
        unpacked: Path | None = None
        """A folder into which the Debian package is already unpacked; by default it is fetched."""
        cache: Path = Path("~/.cache/raekit/debian")
        """Where the fetched package is kept."""
        workers: int = Field(2, ge=1)
        """Drawing processes."""

    def __init__(self, settings: Config) -> None:
        self.config = settings

    def build(self, folder: Path) -> Manifest:
        """Draw the collection into ``folder``; continues where an earlier run of the same build stopped."""
        cfg = self.config
        unpacked = cfg.unpacked or fetch_packages([PACKAGE], cfg.cache.expanduser())
        root = unpacked / ROOT
        if not root.is_dir():
            raise UserError(f"unpacked {unpacked}: holds no {ROOT}; unpack {PACKAGE} there with dpkg-deb -x")
        splits: dict[str, list[tuple[ClipArt, str]]] = {"train": [], "validation": [], "test": []}
        for art, caption in captioned(read_collection(root)):
            splits[split_of(art, caption)].append((art, caption))
        version = package_version(unpacked, PACKAGE) or "unknown"
        settings = cfg.model_dump(mode="json", exclude={"unpacked", "cache", "workers"}) | {"package": version}
        parts = split_into_parts(splits, cfg.samples_per_shard)
        made = build_shards(folder, Manifest("openclipart", settings), parts, partial(draw, size=cfg.size), cfg.workers)
        credit = Credit(
            title="Open Clip Art Library 0.18",
            author="the makers named in each sample's metadata",
            url="https://openclipart.org",
            licence="public domain",
            licence_url="https://creativecommons.org/licenses/publicdomain/",
            version=f"Debian {PACKAGE} {version}",
            changes=f"rendered from SVG at {cfg.size} px, captioned from its metadata",
        )
        write_attribution(folder, "Open Clip Art", [credit])
        return made


def read_collection(root: Path) -> list[ClipArt]:
    """Every file below ``root`` that is no link, sorted by path, with its RDF metadata."""
    found = []
    for path in sorted(root.rglob("*.svg")):
        if not path.is_symlink():
            found.append(read_clip_art(path, path.relative_to(root).as_posix()))
    return found


def read_clip_art(path: Path, place: str) -> ClipArt:
    """One file's title, tags, description, creator and licence; all empty where it states none."""
    title = description = creator = licence = ""
    tags: tuple[str, ...] = ()
    for element in _work(path):
        tag = element.tag.rpartition("}")[2]
        text = " ".join((element.text or "").split())
        if tag == "title":
            title = text
        elif tag == "description":
            description = text
        elif tag == "license":
            licence = next(iter(element.attrib.values()), "").lower()
        elif tag == "subject":
            tags = tuple(" ".join((e.text or "").split()) for e in element.iter() if e.tag.endswith("}li"))
        elif tag == "creator":
            creator = " ".join((e.text or "").strip() for e in element.iter()).strip()
    return ClipArt(path, place, title, tags, description, creator, "publicdomain" in licence)


def _work(path: Path) -> list[ET.Element]:
    """The children of the file's ``cc:Work``, its description in RDF."""
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError:
        return []
    return next((list(element) for element in root.iter() if element.tag.endswith("}Work")), [])


def captioned(collection: list[ClipArt]) -> Iterator[tuple[ClipArt, str]]:
    """The drawings to keep, each with a caption: its title, or where that names a pack, its file name and tags."""
    same_title = Counter(clean_title(art.title) for art in collection)
    for art in collection:
        words = " ".join((art.place.replace("_", " "), art.title, *art.tags, art.description))
        if not art.is_public_domain or LEFT_OUT_FOLDERS.match(art.place) or LEFT_OUT_WORDS.search(words):
            continue
        title, tags = clean_title(art.title), clean_tags(art.tags)
        if re.search(r"[a-z]{3}", title.lower()) and same_title[title] <= MAX_SAME_TITLE:
            yield art, title
        elif tags:
            named = file_words(art.place)
            yield art, ", ".join(dict.fromkeys([named, *tags] if named else tags))


def file_words(place: str) -> str:
    """The words of a file's name: "map_symbols/aiga_exit_.svg" to "aiga exit"; empty where there are none."""
    stem = place.rpartition("/")[2].removesuffix(".svg")
    return " ".join(word for word in re.split(r"[^a-z]+", stem.lower()) if len(word) > 2)


def clean_title(title: str) -> str:
    """A title without "Clipart by X - ", file endings, underscores and trailing numbers."""
    text = re.sub(r"^clip ?art by [^-]*- *", "", title, flags=re.IGNORECASE)
    text = re.sub(r"\.svg$", "", text).replace("_", " ")
    return " ".join(re.sub(r"[ -]*\d+$", "", text).split()).strip(" -")


def clean_tags(tags: tuple[str, ...]) -> list[str]:
    """Tags that are words, without repeats."""
    words = (tag.replace("_", " ").strip().lower() for tag in tags if tag.lower() not in NOISE_TAGS)
    return list(dict.fromkeys(word for word in words if re.fullmatch(r"[^\W\d][\w' -]{2,30}", word)))


def split_of(art: ClipArt, caption: str) -> str:
    """90/5/5 by maker and caption, so that near-copies stay on one side."""
    key = f"{art.creator}|{caption.lower()}"
    bucket = int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16) % 20
    return {0: "validation", 1: "test"}.get(bucket, "train")


def draw(item: tuple[ClipArt, str], size: int) -> Drawn | Dropped:
    """Render one drawing at ``size`` pixels, with its caption and longer alternatives."""
    art, caption = item
    try:
        image = render_resvg(art.path.read_text(encoding="utf-8", errors="replace"), size)
    except ValueError:
        return Dropped("unreadable")
    if is_blank(image) or is_flat(image):
        return Dropped("blank")
    tags = [tag for tag in clean_tags(art.tags) if tag != art.creator.lower()]
    longer = [f"{caption}, {', '.join(tags)}"] if tags and not caption.endswith(", ".join(tags)) else []
    if 10 < len(art.description) < 200 and not re.search(r"HASH\(|http|@", art.description):
        longer.append(art.description)
    metadata = {
        "caption": caption,
        "alternatives": [*longer, f"clip art of {caption}"],
        "tags": tags,
        "creator": art.creator,
        "group": art.place.rpartition("/")[0],
        "licence": "public domain",
        "source": f"{PACKAGE}:{art.place}",
        "split": split_of(art, caption),
    }
    key = re.sub(r"[^\w-]", "_", art.place.removesuffix(".svg"))
    return Drawn(key, encode_webp(image), metadata, digest(image))
