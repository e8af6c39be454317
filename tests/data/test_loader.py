from __future__ import annotations

import io
import logging
import struct
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
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
    batches = take(loader, 5)
    assert loader.counts == {"shards": 20, "rendered_text": 10}
    assert loader.counts == Counter(domain for batch in batches for domain in batch.domains)


@pytest.mark.parametrize("world", [1, 3])
def test_counts_are_exact_after_a_resume_on_any_rank(data, world: int) -> None:
    unbroken = Loader(data, 6)
    take(unbroken, 7)
    resumed = Loader(data, 6, rank=world - 1, world=world)
    resumed.load_state_dict({"position": 24})
    take(resumed, 3)
    assert resumed.counts == unbroken.counts


def broken_loader(write_shard, numbers: range, broken: tuple[int, ...], batch_size: int) -> Loader:
    source = {"name": "shards", "path": write_shard("b.tar", numbers, broken=broken)}
    block = {"mixture": [source], "shuffle": False, "image_size": 8}
    return Loader(build_dataset(DataConfig.model_validate(block)), batch_size)


def test_unusable_samples_are_counted_and_the_first_few_named(write_shard, caplog) -> None:
    loader = broken_loader(write_shard, range(40), tuple(range(0, 40, 2)), 4)
    with caplog.at_level(logging.WARNING):
        batches = take(loader, 20)
    assert loader.num_skipped == 40 == sum(batch.num_skipped for batch in batches)
    assert batches[0].num_skipped == 2 and "b.tar:s000: is no" in batches[0].skipped[0].reason
    assert [caplog.text.count(f"b.tar:s{number:03d}:") for number in (0, 2, 8, 10)] == [1, 1, 1, 0]
    assert [record.args[0] for record in caplog.records] == [2, 4, 6, 12, 24]


def test_the_same_unusable_sample_is_named_once(write_shard, caplog) -> None:
    loader = broken_loader(write_shard, range(8), (1, 5), 4)
    with caplog.at_level(logging.WARNING):
        take(loader, 3)
    assert loader.num_skipped == 3
    assert caplog.text.count("b.tar:s001:") == 1


def hostile_folder(folder: Path) -> dict[str, str]:
    """A folder of odd pictures, and what is said of each that cannot be used."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257).save(folder / "sixteen_bits.png")
    Image.fromarray(noise).convert("P").save(folder / "palette.gif")
    Image.new("LA", (16, 16), (9, 9)).save(folder / "transparent.png")
    Image.new("RGB", (1, 1)).save(folder / "tiny.png")
    Image.fromarray(np.full((16, 16), np.nan, np.float32)).save(folder / "unknown.tif")
    whole = (folder / "cmyk.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "huge.bmp").write_bytes(huge_bitmap())
    return {
        "tiny.png": "1 x 1 pixels, less than min_side",
        "unknown.tif": "holds NaN",
        "half.jpg": "cannot be decoded",
        "drawing.png": "is a vector drawing",
        "huge.bmp": "20000 x 7000 = 140,000,000 pixels",
    }


def huge_bitmap() -> bytes:
    """The first bytes of a bitmap of 140 million pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "BMP")
    content = bytearray(buffer.getvalue())
    content[18:26] = struct.pack("<ii", 20_000, 7_000)
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_pictures_are_named_and_the_odd_ones_read(tmp_path, caplog) -> None:
    bad = hostile_folder(tmp_path)
    block = {"mixture": [{"name": "folder", "path": tmp_path}], "image_size": 16, "background": "blue"}
    with caplog.at_level(logging.WARNING):
        (batch,) = Loader(build_dataset(DataConfig.model_validate(block)), 9, stop=9)
    assert set(batch.keys) == {"cmyk.jpg", "sixteen_bits.png", "palette.gif", "transparent.png"}
    for name, sentence in bad.items():
        assert any(name in line and sentence in line for line in caplog.text.splitlines()), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_pinned_batches_hold_the_same(data) -> None:
    plain, pinned = (take(Loader(data, 4, settings=Loader.Config(pin_memory=p)), 3) for p in (False, True))
    assert all(batch.image.is_pinned() and batch.positions.is_pinned() for batch in pinned)
    assert all(same(a, b) for a, b in zip(plain, pinned, strict=True))
    assert torch.equal(pinned[0].to("cuda").image.cpu(), plain[0].image)


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
    with pytest.raises(UserError, match="batch_size: 5 samples cannot be shared evenly by 2 processes"):
        Loader(data, 5, world=2)


def test_an_empty_part_of_a_last_batch() -> None:
    assert collate([], [], 16).image.shape == (0, 3, 16, 16)
