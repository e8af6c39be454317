"""The pictures of an evaluation: each once, with its words where they are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_data
import two_ranks
from raekit import distributed, shares
from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.sample import Sample
from raekit.errors import UserError
from raekit.evaluate.pictures import Page, Pictures, open_pictures, text_of


def names(pictures: Pictures) -> list[str]:
    return [caption for page in pictures.pages() for caption in page.captions]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_picture_once_whatever_the_batch(tmp_path: Path, batch_size: int) -> None:
    datasets = open_pictures([str(tiny_data.pictures(tmp_path / "shapes"))], 16)
    pictures = Pictures(datasets, 6, batch_size)
    found = names(pictures)
    assert len(found) == len(set(found)) == len(pictures) == 6
    pages = list(pictures.pages())
    assert {domain for page in pages for domain in page.domains} == {"shapes"}
    assert pages[0].image.shape == (min(batch_size, 6), 3, 16, 16)
    assert pages[0].texts == [""] * len(pages[0]) and pages[0].labels == [-1] * len(pages[0])
    assert pictures.describe() == {"shapes": 6}


def test_an_unreadable_picture_does_not_count_its_neighbour_twice(tmp_path: Path) -> None:
    folder = tiny_data.pictures(tmp_path / "shapes")
    (folder / "green_circle.png").write_bytes(b"no picture")
    pictures = Pictures(open_pictures([str(folder)], 16), 100, 3)
    found = names(pictures)
    assert len(found) == len(set(found)) == 7
    assert (pictures.num_skipped, pictures.num_repeated) == (1, 1)


def test_a_mixture_that_repeats_its_smaller_source_does_not_count_it_twice(tmp_path: Path) -> None:
    small, large = tiny_data.pictures(tmp_path / "small"), tiny_data.pictures(tmp_path / "large")
    for path in sorted(small.glob("*.png"))[2:]:
        path.unlink()
    mixture = [{"name": "folder", "path": str(folder), "domain": folder.name} for folder in (small, large)]
    dataset = build_dataset(DataConfig.model_validate({"mixture": mixture, "image_size": 16, "shuffle": False}))
    pictures = Pictures([dataset], 100)
    domains = [domain for page in pictures.pages() for domain in page.domains]
    assert (domains.count("small"), domains.count("large")) == (2, 8)
    assert pictures.num_repeated == 6


def test_pictures_made_on_the_fly_tell_their_words() -> None:
    pictures = Pictures(open_pictures(["rendered_text"], 16), 4, 3)
    for page in pictures.pages(with_texts=True):
        for text, caption in zip(page.texts, page.captions, strict=True):
            assert text and all(word in caption for word in text.split())
    assert all(text == "" for page in pictures.pages() for text in page.texts)


@pytest.mark.parametrize(
    ("caption", "metadata", "text"),
    [
        ('a sign that says "stop"', {"text": "stop"}, "stop"),
        ("a sign", {"text": "stop", "alternatives": ['the word "stop"']}, "stop"),
        ("stop", {"text": "stop"}, ""),
        ('a "thinker" of bronze', {}, ""),
        ('a sign that says "7"', {"text": 7}, ""),
    ],
)
def test_words_are_those_that_metadata_tells_and_a_caption_quotes(caption: str, metadata: dict, text: str) -> None:
    assert text_of(Sample(np.zeros((1, 1, 3), np.uint8), caption, "x", metadata)) == text


def test_a_recipe_lends_its_held_out_pictures(tmp_path: Path) -> None:
    folders = {name: tiny_data.pictures(tmp_path / name) for name in ("data", "held_out")}
    blocks = {k: {"image_size": 32, "mixture": [{"name": "folder", "path": str(v)}]} for k, v in folders.items()}
    (folders["held_out"] / "red_circle.png").unlink()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"stage": "stage1", **blocks}))
    (dataset,) = open_pictures([str(recipe)], 16)
    assert (len(dataset), dataset[0].image.shape) == (7, (3, 16, 16))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no/such/folder", "data 'no/such/folder': no such folder, tar or recipe"),
        ("no/such.yaml", "no such file"),
        ("empty.yaml", "has no held_out or data section"),
        ("scenes", "scenes"),
    ],
)
def test_data_that_is_not_there_is_named(tmp_path: Path, monkeypatch, name: str, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("stage: stage1\n")
    with pytest.raises(UserError, match=sentence):
        open_pictures([name], 16)


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    folder = tiny_data.pictures(tmp_path / "shapes")
    with pytest.raises(UserError, match="num: 1 different pictures are too few"):
        Pictures(open_pictures([str(folder)], 16), 1)
    for path in sorted(folder.glob("*.png"))[1:]:
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="num: 1 different pictures are too few"):
        names(Pictures(open_pictures([str(folder)], 16), 8))


Seen = tuple[int, list[str], list[str], list[str]]


def seen(page: Page) -> Seen:
    return page.first, page.captions, page.domains, page.texts


def look_together(folders: list[str]) -> None:
    distributed.join(torch.device("cpu"))
    datasets = [*open_pictures(folders, 16), *open_pictures(["rendered_text"], 16)]
    pictures, others = Pictures(datasets, 7, 2), Pictures(datasets, 7, 2)
    expected = [seen(page) for page in pictures.pages(with_texts=True)]
    with shares.sharing():
        assert list(others.each(seen, with_texts=True)) == expected
        own = [page.first for page in others.pages()]
    assert sorted(first for each in distributed.gathered(own) for first in each) == [page[0] for page in expected]
    assert all(distributed.gathered(own))
    assert (others.num_skipped, others.num_repeated) == (pictures.num_skipped, pictures.num_repeated) == (1, 1)
    assert [page[0] for page in expected] == [0, 2, 3, 5, 6, 8, 10, 12] and any(any(page[3]) for page in expected)


def test_processes_that_share_count_and_read_as_one_does(tmp_path: Path) -> None:
    folder = tiny_data.pictures(tmp_path / "shapes")
    (folder / "green_circle.png").write_bytes(b"no picture")
    two_ranks.run(look_together, [str(folder)])
