from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from raekit.config import validate
from raekit.data.dataset import DataConfig, Dataset, build_dataset, pictures_of
from raekit.data.palette import PALETTE
from raekit.data.quarantine import MAX_SKIPS
from raekit.data.sample import ENDLESS
from raekit.errors import UserError

TEXT = {"name": "rendered_text", "size": 32, "fonts": "builtin"}


def dataset(*sources: dict, seed: int = 0, **settings) -> Dataset:
    return build_dataset(validate(DataConfig, {"mixture": list(sources), "image_size": 16, **settings}, "recipe"), seed)


def test_an_item_is_a_square_picture_with_one_caption(write_shard) -> None:
    item = dataset({"name": "shards", "path": write_shard()}, shuffle=False)[2]
    assert item.image.shape == (3, 16, 16)
    assert item.image.dtype == np.uint8
    assert (item.image == 2).all()
    assert (item.caption, item.key, item.domain, item.label) == ("number 2", "s002", "shards", -1)


def test_items_follow_from_seed_and_position_alone(write_shard) -> None:
    settings = {"captions": "any", "crop": "random", "mirror": True}
    source = {"name": "shards", "path": write_shard()}
    first, again, other = (dataset(source, TEXT, seed=seed, **settings) for seed in (1, 1, 2))
    backwards = {position: again[position] for position in reversed(range(12))}
    for position in range(12):
        assert np.array_equal(first[position].image, backwards[position].image)
        assert first[position].caption == backwards[position].caption == first.caption(position)
    assert [first[p].caption for p in range(12)] != [other[p].caption for p in range(12)]
    assert other.with_seed(1)[7].caption == first[7].caption


def test_length_is_one_pass_over_the_finite_sources(write_shard) -> None:
    shard = {"name": "shards", "path": write_shard(numbers=range(5))}
    assert len(dataset(shard)) == 5
    assert sorted(dataset(shard)[p].key for p in range(5)) == [f"s00{n}" for n in range(5)]
    assert len(dataset({**shard, "weight": 1}, {**TEXT, "weight": 3})) == 20
    assert len(dataset(TEXT)) == ENDLESS


def test_captions_are_canonical_or_any(write_shard) -> None:
    shard = {"name": "shards", "path": write_shard()}
    canonical = {dataset(shard)[p].caption.split()[0] for p in range(12)}
    drawn = {dataset(shard, captions="any")[p].caption.split()[0] for p in range(12)}
    assert canonical == {"number"}
    assert drawn == {"number", "the"}


def test_a_random_background_is_stated(sprite_shard) -> None:
    data = dataset({"name": "shards", "path": sprite_shard}, background="random")
    grounds = set()
    for position in range(12):
        item = data[position]
        named = next(name for name in PALETTE if item.caption.endswith(f" {name} background"))
        assert tuple(item.image[:, 0, 0]) == PALETTE[named]
        grounds.add(named)
    assert len(grounds) > 3


def test_a_plain_background_is_not_stated(sprite_shard) -> None:
    item = dataset({"name": "shards", "path": sprite_shard}, background="blue")[0]
    assert tuple(item.image[:, 0, 0]) == PALETTE["blue"]
    assert "background" not in item.caption


def test_letters_are_never_mirrored() -> None:
    plain, mirrored = dataset(TEXT), dataset(TEXT, mirror=True)
    assert all(np.array_equal(plain[p].image, mirrored[p].image) for p in range(8))


def test_letters_are_never_cut_by_a_random_crop() -> None:
    centred, cut = dataset(TEXT), dataset(TEXT, crop="random")
    assert all(np.array_equal(centred[p].image, cut[p].image) for p in range(8))


def test_half_of_other_pictures_are_mirrored(sprite_shard, tmp_path) -> None:
    lopsided = np.zeros((16, 16, 3), np.uint8)
    lopsided[:, :4] = 255
    Image.fromarray(lopsided).save(tmp_path / "a.png")
    data = dataset({"name": "folder", "path": tmp_path}, mirror=True)
    assert 10 < sum(data[p].image[0, 0, 0] == 0 for p in range(40)) < 30


def test_a_bad_sample_is_replaced_by_the_next_readable_one_and_counted(write_shard) -> None:
    data = dataset({"name": "shards", "path": write_shard("a.tar", range(6), broken=(2, 3))}, shuffle=False)
    found = [(data[p].key, data[p].num_skipped) for p in range(1, 5)]
    assert found == [("s001", 0), ("s004", 2), ("s004", 1), ("s004", 0)]


def test_the_last_sample_is_replaced_by_the_first(write_shard) -> None:
    data = dataset({"name": "shards", "path": write_shard("a.tar", range(3), broken=(2,))}, shuffle=False)
    assert data[2].key == "s000"


def test_nothing_readable_is_an_error_that_names_the_source(write_shard) -> None:
    data = dataset({"name": "shards", "path": write_shard("a.tar", range(2), broken=(0, 1)), "domain": "mine"})
    with pytest.raises(UserError, match=f"'mine': {MAX_SKIPS} samples in a row"):
        data[0]


def test_too_small_and_too_long_pictures_are_passed_over(tmp_path) -> None:
    for name, size in (("a", (1, 1)), ("b", (7, 30)), ("c", (20, 401)), ("d", (8, 8)), ("e", (20, 400))):
        Image.new("RGB", size, "blue").save(tmp_path / f"{name}.png")
    data = dataset({"name": "folder", "path": tmp_path}, shuffle=False)
    assert (data[0].key, data[0].num_skipped, data[4].key) == ("d.png", 3, "e.png")
    assert str(data[0].skipped[0]) == "a.png: 1 x 1 pixels, less than min_side 8"
    assert "c.png: 20 x 401 pixels" in data[0].skipped[2].reason
    assert dataset({"name": "folder", "path": tmp_path}, shuffle=False, min_side=1)[0].key == "a.png"


def test_pictures_without_a_caption_are_passed_over_where_captions_are_learned_from(tmp_path) -> None:
    for name in ("told", "untold"):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    (tmp_path / "told.txt").write_text("a black square")
    block = {"mixture": [{"name": "folder", "path": tmp_path}], "image_size": 16, "shuffle": False}
    settings = validate(DataConfig, block, "recipe")
    assert [build_dataset(settings)[position].caption for position in range(2)] == ["a black square", ""]
    item = build_dataset(settings, is_captioned=True)[1]
    (skipped,) = map(str, item.skipped)
    assert item.caption == "a black square" and "untold" in skipped and "no caption" in skipped


def test_sources_of_one_name_are_told_apart(write_shard) -> None:
    shard = {"name": "shards", "path": write_shard()}
    data = dataset(shard, {**shard, "domain": "mine"}, shard, TEXT)
    assert list(data.mixture.counts(0)) == ["shards", "mine", "shards_2", "rendered_text"]
    with pytest.raises(UserError, match="domain 'mine' is given to 2 sources"):
        dataset({**shard, "domain": "mine"}, {**TEXT, "domain": "mine"})


def test_pictures_kept_in_memory_are_read_once(write_shard) -> None:
    path = write_shard()
    data = dataset({"name": "shards", "path": path}, in_memory=True)
    first = data[0]
    path.unlink()
    assert np.array_equal(data[0].image, first.image)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"mixture": [{"name": "shard", "path": "x"}]}, "did you mean 'shards'"),
        ({"mixture": [{"name": "folder", "path": "x", "weight": 0}]}, "weight"),
        ({"mixture": [TEXT], "background": "teal"}, "background: must be random or one of red"),
        ({"mixture": []}, "mixture"),
        ({"mixture": [TEXT], "image_sise": 64}, "did you mean 'image_size'"),
    ],
)
def test_mistakes_in_the_block_are_named(block: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(DataConfig, block, "recipe")


def test_a_folder_is_read_as_what_it_holds(write_shard, tmp_path) -> None:
    path = write_shard(numbers=range(3))
    for given in (path, tmp_path):
        data = build_dataset(pictures_of(given, "train", 8))
        assert [data[p].key for p in range(3)] == ["s000", "s001", "s002"]
    (tmp_path / "files").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "files" / "a.png")
    assert build_dataset(pictures_of(tmp_path / "files", None, 8))[0].domain == "folder"
