from __future__ import annotations

from pathlib import Path

import pytest

from raekit.data.shards import Shards
from raekit.data.sources.openclipart import (
    MAX_SAME_TITLE,
    ROOT,
    OpenClipArt,
    captioned,
    clean_tags,
    clean_title,
    read_collection,
    split_of,
)
from raekit.errors import UserError

PUBLIC = "http://web.resource.org/cc/PublicDomain"
FILE = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/" width="10pt" height="10pt"
 viewBox="0 0 10 10"><metadata><rdf:RDF><cc:Work><dc:title>{title}</dc:title>
<dc:description>{description}</dc:description><dc:subject><rdf:Bag>{tags}</rdf:Bag></dc:subject>
<dc:creator><cc:Agent><dc:title>Ada</dc:title></cc:Agent></dc:creator><cc:license rdf:resource="{licence}"/>
</cc:Work></rdf:RDF></metadata><circle cx="5" cy="5" r="{radius}" fill="#08f"/></svg>"""


class Collection:
    """A tree of drawings, each with another circle."""

    def __init__(self, unpacked: Path) -> None:
        self.unpacked, self.root, self.count = unpacked, unpacked / ROOT, 0

    def add(self, place: str, title: str = "", tags=(), licence: str = PUBLIC, description: str = "") -> None:
        self.count += 1
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        items = "".join(f"<rdf:li>{tag}</rdf:li>" for tag in tags)
        radius = 1 + self.count * 0.07
        path.write_text(FILE.format(title=title, tags=items, licence=licence, description=description, radius=radius))

    def captions(self) -> dict[str, str]:
        return {art.place: caption for art, caption in captioned(read_collection(self.root))}


@pytest.fixture
def collection(tmp_path) -> Collection:
    return Collection(tmp_path / "unpacked")


def test_titles_are_captions_and_tags_stand_in_for_them(collection) -> None:
    collection.add("food/pear.svg", "Clipart by Ada B - Green pear_02", ["fruit"])
    collection.add("food/x.svg", "", ["fruit", "", "hash", "green_apple"])
    collection.add("food/nothing.svg", "12")
    assert collection.captions() == {"food/pear.svg": "Green pear", "food/x.svg": "fruit, green apple"}


def test_a_title_given_to_a_whole_pack_says_nothing(collection) -> None:
    for number in range(MAX_SAME_TITLE + 1):
        collection.add(f"map/{number}.svg", f"Map Symbols {number}", ["hospital"] if number == 3 else [])
    assert collection.captions() == {"map/3.svg": "hospital"}


def test_a_file_name_speaks_where_the_title_does_not(collection) -> None:
    collection.add("map_symbols/aiga_exit_02.svg", "", ["symbol"])
    assert collection.captions() == {"map_symbols/aiga_exit_02.svg": "aiga exit, symbol"}


@pytest.mark.parametrize(
    "given",
    [
        {"place": "shapes/stars/a.svg"},
        {"place": "computer/icons/theme/a.svg"},
        {"place": "tools/weapons/a.svg"},
        {"place": "people/a.svg", "title": "A bullet hole"},
        {"place": "people/a.svg", "tags": ["Shadow Babe"]},
        {"place": "people/a.svg", "licence": ""},
        {"place": "people/a.svg", "licence": "http://creativecommons.org/licenses/GPL/2.0/"},
    ],
)
def test_what_is_left_out(collection, given: dict) -> None:
    collection.add(**{"title": "A nice thing", **given})
    assert collection.captions() == {}


def test_broken_files_and_links_are_passed_over(collection) -> None:
    collection.add("a/one.svg", "One cat")
    (collection.root / "a" / "two.svg").write_text("<svg")
    (collection.root / "a" / "three.svg").symlink_to(collection.root / "a" / "one.svg")
    assert list(collection.captions()) == ["a/one.svg"]


def test_cleaning() -> None:
    assert clean_title("Clipart by Nicu Buculei - smiley_111") == "smiley"
    assert clean_title("green tea.svg") == "green tea"
    assert clean_tags(("hash", "", "Fruit", "fruit", "0x9c7e2ec", "ice_cream", "ab")) == ["fruit", "ice cream"]


def test_near_copies_stay_on_one_side(collection) -> None:
    for number in range(4):
        collection.add(f"food/{number}.svg", f"Blue Pear {number}")
    arts = list(captioned(read_collection(collection.root)))
    assert len({split_of(art, caption) for art, caption in arts}) == 1


def test_a_collection_becomes_shards(collection, tmp_path) -> None:
    pytest.importorskip("resvg_py")
    for number, word in enumerate(("pear", "apple", "cherry", "lemon")):
        collection.add(
            f"food/{word}.svg", word, ["fruit"], description="A fruit that grows on trees." if number else ""
        )
    settings = OpenClipArt.Config(unpacked=collection.unpacked, size=16, workers=1)
    manifest = OpenClipArt(settings).build(tmp_path / "out")
    assert sum(manifest.splits.values()) == 4
    source = Shards(Shards.Config(path=tmp_path / "out"))
    pear = source[source.keys.index("food_pear")]
    assert pear.captions == ["pear", "pear, fruit", "clip art of pear"]
    assert pear.image.shape == (16, 16, 4)
    assert (pear.metadata["creator"], pear.metadata["licence"]) == ("Ada", "public domain")
    assert "public domain" in (tmp_path / "out" / "ATTRIBUTION.md").read_text()


def test_a_folder_without_the_package_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="dpkg-deb -x"):
        OpenClipArt(OpenClipArt.Config(unpacked=tmp_path)).build(tmp_path / "out")
