from __future__ import annotations

import logging
from itertools import islice

import pytest
import torch
from PIL import Image

from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.loader import Loader, collate
from raekit.errors import UserError

TEXT = {"name": "rendered_text", "size": 32, "fonts": "builtin"}


@pytest.fixture
def data(write_shard):
    """Eleven pictures and rendered words, mixed two to one, everything that is random switched on."""
    sources = [{"name": "shards", "path": write_shard(numbers=range(11)), "weight": 2}, TEXT]
    settings = {"image_size": 16, "captions": "any", "crop": "random", "mirror": True}
    return build_dataset(DataConfig.model_validate({"mixture": sources, **settings}), seed=5)


def take(loader: Loader, count: int) -> list:
    return list(islice(loader, count))


def same(a, b) -> bool:
    lists = (a.captions, a.keys, a.domains) == (b.captions, b.keys, b.domains)
    return lists and torch.equal(a.image, b.image) and torch.equal(a.positions, b.positions)


def test_a_batch_has_what_a_step_needs(data) -> None:
    (batch,) = take(Loader(data, 6), 1)
    assert batch.image.shape == (6, 3, 16, 16)
    assert batch.image.dtype == torch.uint8
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(batch.captions) == len(batch.keys) == len(batch.domains) == len(batch) == 6
    assert batch.labels is None
    assert batch.to("cpu").image.dtype == torch.uint8


def test_batches_go_on_from_each_other(data) -> None:
    positions = [batch.positions for batch in take(Loader(data, 4), 5)]
    assert torch.cat(positions).tolist() == list(range(20))


@pytest.mark.parametrize("world", [2, 3])
def test_many_ranks_see_the_same_global_batches_as_one(data, world: int) -> None:
    whole = take(Loader(data, 6), 4)
    parts = [take(Loader(data, 6, rank=rank, world=world), 4) for rank in range(world)]
    for number, batch in enumerate(whole):
        slices = [part[number] for part in parts]
        assert torch.equal(torch.cat([piece.image for piece in slices]), batch.image)
        assert torch.cat([piece.positions for piece in slices]).tolist() == batch.positions.tolist()
        assert [caption for piece in slices for caption in piece.captions] == batch.captions


def test_resuming_in_the_middle_of_an_epoch_is_exact(data) -> None:
    unbroken = take(Loader(data, 5), 9)
    first = Loader(data, 5)
    take(first, 4)
    state = first.state_dict()
    assert state == {"position": 20}
    second = Loader(data, 5)
    second.load_state_dict(state)
    assert all(same(a, b) for a, b in zip(take(second, 5), unbroken[4:], strict=True))


def test_read_ahead_does_not_move_the_position(data) -> None:
    loader = Loader(data, 4, settings=Loader.Config(threads=2, prefetch=8))
    batches = iter(loader)
    next(batches)
    assert loader.position == 4


def test_another_batch_size_goes_on_at_the_same_sample(data) -> None:
    loader = Loader(data, 3, start_position=8)
    assert take(loader, 1)[0].positions.tolist() == [8, 9, 10]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_change_nothing(data, threads: int) -> None:
    plain = take(Loader(data, 4, settings=Loader.Config(threads=0)), 6)
    ahead = take(Loader(data, 4, settings=Loader.Config(threads=threads, prefetch=3)), 6)
    assert all(same(a, b) for a, b in zip(plain, ahead, strict=True))


def test_the_seed_changes_the_order(data) -> None:
    assert take(Loader(data, 8, seed=6), 1)[0].captions != take(Loader(data, 8), 1)[0].captions
    assert take(Loader(data, 8, seed=5), 1)[0].captions == take(Loader(data, 8), 1)[0].captions


@pytest.mark.parametrize("world", [1, 2])
def test_a_stop_gives_every_position_once(data, world: int) -> None:
    seen = []
    for rank in range(world):
        loader = Loader(data, 4, rank=rank, world=world, stop=11)
        seen += [position for batch in loader for position in batch.positions.tolist()]
        assert loader.position == 11
    assert sorted(seen) == list(range(11))


def test_samples_are_counted_by_domain(data) -> None:
    loader = Loader(data, 6)
    take(loader, 5)
    assert loader.counts == {"shards": 20, "rendered_text": 10}


def test_skipped_samples_are_counted_and_logged(write_shard, caplog) -> None:
    block = {"mixture": [{"name": "shards", "path": write_shard("b.tar", range(8), broken=(1, 5))}], "shuffle": False}
    loader = Loader(build_dataset(DataConfig.model_validate({**block, "image_size": 8})), 4)
    with caplog.at_level(logging.WARNING):
        take(loader, 3)
    assert loader.num_skipped == 3
    assert "3 so far" in caplog.text


def test_labels_are_given_where_every_sample_has_one(tmp_path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    block = {"mixture": [{"name": "folder", "path": tmp_path}], "image_size": 8, "shuffle": False}
    (batch,) = take(Loader(build_dataset(DataConfig.model_validate(block)), 2), 1)
    assert batch.labels.tolist() == [0, 1]
    assert batch.captions == ["cat", "dog"]


def test_an_error_in_a_thread_reaches_the_caller(write_shard) -> None:
    block = {"mixture": [{"name": "shards", "path": write_shard("c.tar", range(2), broken=(0, 1))}], "image_size": 8}
    with pytest.raises(UserError, match="in a row"):
        take(Loader(build_dataset(DataConfig.model_validate(block)), 2), 1)


def test_a_batch_that_the_ranks_cannot_share_is_refused(data) -> None:
    with pytest.raises(UserError, match="batch_size 5: must be a positive multiple of the 2"):
        Loader(data, 5, world=2)


def test_an_empty_part_of_a_last_batch() -> None:
    assert collate([], [], 16).image.shape == (0, 3, 16, 16)
