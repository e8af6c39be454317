from __future__ import annotations

import pytest

from raekit.data.sources.emoji_labels import ConceptTable, normalise, spoken

GROUPS = {0: "smileys & emotion", 1: "people & body", 2: "components", 3: "objects", 9: "flags"}
ROWS = [
    {"label": "alarm clock", "hexcode": "23F0", "group": 3, "tags": ["clock", "wake"]},
    {"label": "cloud", "hexcode": "2601", "group": 3},
    {"label": "flag: Côte d’Ivoire", "hexcode": "1F1E8-1F1EE", "group": 9},
    {
        "label": "waving hand",
        "hexcode": "1F44B",
        "group": 1,
        "tags": ["wave"],
        "skins": [{"label": "waving hand: dark skin tone", "hexcode": "1F44B-1F3FF", "group": 1, "tone": 5}],
    },
    {"label": "light skin tone", "hexcode": "1F3FB", "group": 2},
    {"label": "regional indicator A", "hexcode": "1F1E6"},
]


@pytest.fixture
def table() -> ConceptTable:
    return ConceptTable(ROWS, GROUPS)


@pytest.mark.parametrize(
    ("name", "hexcodes", "aliases", "label"),
    [
        ("anything", ["23f0"], [], "alarm clock"),
        ("anything", ["2601-fe0f"], [], "cloud"),
        ("alarm-clock", [], [], "alarm clock"),
        ("cloud-1", [], [], "cloud"),
        ("flag-for-cote-divoire", [], [], "flag of Côte d’Ivoire"),
        ("wake-up", [], ["alarm-clock"], "alarm clock"),
        ("alarmclock", [], [], "alarm clock"),
        ("waving-hand-dark-skin-tone", [], [], "waving hand with dark skin tone"),
    ],
)
def test_names_are_found_from_the_surest_key_to_the_loosest(table, name, hexcodes, aliases, label) -> None:
    assert table.find(name, hexcodes, aliases).label == label


def test_unknown_names_and_components_are_left_out(table) -> None:
    assert table.find("logo") is None
    assert table.find("light-skin-tone") is None
    assert table.find("regional-indicator-a") is None


def test_a_skin_variant_shares_the_concept_of_its_base(table) -> None:
    base, variant = table.find("waving-hand"), table.find("waving-hand-dark-skin-tone")
    assert (base.base, base.has_tone) == ("waving-hand", False)
    assert (variant.base, variant.has_tone, variant.tags) == ("waving-hand", True, ("wave",))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("flag: Japan", "flag of Japan"),
        ("man: red hair", "man with red hair"),
        ("woman: bald", "bald woman"),
        ("man: beard", "man with a beard"),
        ("keycap: 1", "keycap 1"),
        ("family: man, boy", "family of man, boy"),
        ("kiss: woman, man", "kiss, woman, man"),
        ("dog", "dog"),
    ],
)
def test_labels_become_words(label: str, words: str) -> None:
    assert spoken(label) == words


def test_names_are_compared_without_accents_and_signs() -> None:
    assert normalise("Antigua & Barbuda") == "antigua-and-barbuda"
    assert normalise("Côte d’Ivoire") == normalise("cote-divoire")
