from __future__ import annotations

import shutil

import pytest
import torch

from raekit.data.cache import TensorCache
from raekit.errors import UserError

KEY = {"encoder": "abc", "size": 64}


def open_cache(folder, key=KEY, num_rows: int = 10) -> TensorCache:
    return TensorCache(folder, key, num_rows, rows_per_chunk=4, precision="bf16")


def rows_of(rows: range) -> dict[str, torch.Tensor]:
    numbers = torch.tensor(list(rows), dtype=torch.float32)
    return {"latent": numbers.view(-1, 1, 1).expand(-1, 2, 3).bfloat16(), "length": numbers.long()}


def fill(cache: TensorCache, limit: int = 100) -> list[range]:
    done = []
    for rows in list(cache.missing())[:limit]:
        cache.write(rows, rows_of(rows))
        done.append(rows)
    return done


def test_rows_come_back_in_the_order_asked_for(tmp_path) -> None:
    cache = open_cache(tmp_path)
    assert fill(cache) == [range(0, 4), range(4, 8), range(8, 10)]
    found = open_cache(tmp_path).read([9, 0, 5, 5])
    assert found["length"].tolist() == [9, 0, 5, 5]
    assert found["latent"].dtype == torch.bfloat16
    assert found["latent"][:, 1, 2].tolist() == [9, 0, 5, 5]


def test_a_build_that_was_stopped_goes_on(tmp_path) -> None:
    fill(open_cache(tmp_path), limit=1)
    resumed = open_cache(tmp_path)
    with pytest.raises(UserError, match="1 of 3 chunks"):
        resumed.read([0])
    assert fill(resumed) == [range(4, 8), range(8, 10)]
    assert resumed.is_complete


def test_a_chunk_that_changed_is_made_again(tmp_path) -> None:
    cache = open_cache(tmp_path)
    fill(cache)
    path = cache.path / "rows-000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert list(open_cache(tmp_path).missing()) == [range(4, 8)]
    path.unlink()
    assert list(open_cache(tmp_path).missing()) == [range(4, 8)]
    assert not open_cache(tmp_path).is_complete


def test_bytes_that_changed_are_found_by_reading_and_a_short_file_without(tmp_path) -> None:
    cache = open_cache(tmp_path)
    fill(cache)
    first, second = (cache.path / f"rows-00000{number}.safetensors" for number in range(2))
    first.write_bytes(first.read_bytes()[:-1] + b"!")
    second.write_bytes(second.read_bytes()[:-1])
    assert list(open_cache(tmp_path).missing(is_verified=False)) == [range(4, 8)]
    assert list(open_cache(tmp_path).missing()) == [range(0, 4), range(4, 8)]


def test_processes_fill_it_side_by_side(tmp_path) -> None:
    shares = [open_cache(tmp_path) for _ in range(2)]
    ranges = [list(share.missing(part, 2)) for part, share in enumerate(shares)]
    assert ranges == [[range(0, 4), range(8, 10)], [range(4, 8)]]
    for share, own in zip(shares, ranges, strict=True):
        for rows in own:
            share.write(rows, rows_of(rows))
    assert not shares[0].is_complete
    shares[0].look_again()
    assert shares[0].read(range(10))["length"].tolist() == list(range(10))


def test_threads_write_while_the_next_rows_are_computed(tmp_path) -> None:
    cache = open_cache(tmp_path)
    with cache.filling() as write:
        for rows in cache.missing():
            write(rows, rows_of(rows), [f"row {row}" for row in rows])
    again = open_cache(tmp_path)
    assert list(again.facts()) == [f"row {row}" for row in range(10)]
    assert "row" not in str(again._headers)  # those of millions of rows stay on the disk
    assert cache.num_bytes == sum(path.stat().st_size for path in cache.path.glob("*.safetensors"))


def test_a_write_that_fails_is_not_lost(tmp_path, monkeypatch) -> None:
    def full(path, content) -> None:
        raise UserError("the disk is full")

    cache = open_cache(tmp_path)
    monkeypatch.setattr("raekit.data.cache.write_atomically", full)
    with pytest.raises(UserError, match="disk is full"), cache.filling() as write:
        write(range(0, 4), rows_of(range(0, 4)))


def test_int8_takes_a_quarter_and_says_what_it_lost(tmp_path) -> None:
    latent = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    caches = {}
    for precision in ("fp32", "int8"):
        caches[precision] = TensorCache(tmp_path, KEY, 4, 4, precision)
        caches[precision].write(range(4), {"latent": latent})
    assert caches["fp32"].error == 0 and torch.equal(caches["fp32"].read(range(4))["latent"], latent)
    back = TensorCache(tmp_path, KEY, 4, 4, "int8").read([2])["latent"]
    lost = float((back - latent[2:3]).norm() / latent[2:3].norm())
    assert caches["int8"].error == pytest.approx(lost, rel=0.1) and 0.005 < lost < 0.009
    assert caches["int8"].num_bytes < 0.27 * caches["fp32"].num_bytes


def test_anything_else_is_another_cache(tmp_path) -> None:
    fill(open_cache(tmp_path))
    assert not open_cache(tmp_path, {**KEY, "encoder": "abd"}).is_complete
    assert not open_cache(tmp_path, num_rows=11).is_complete


def test_a_wrong_number_of_rows_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="latent has 4 rows"):
        open_cache(tmp_path).write(range(8, 10), rows_of(range(4)))


def test_a_cache_that_is_taken_away_is_told_in_one_sentence(tmp_path) -> None:
    cache = open_cache(tmp_path)
    fill(cache)
    cache.read([0])
    shutil.rmtree(cache.path)
    assert cache.read([1])["length"].tolist() == [1]  # mapped already
    with pytest.raises(UserError, match=rf"cache '{cache.path}': rows-000001.* cannot be read now .*--resume"):
        cache.read([5])


def test_only_so_many_chunks_stay_open(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("raekit.data.cache.MAX_OPEN", 2)
    cache = open_cache(tmp_path)
    fill(cache)
    assert cache.read([9, 0, 5, 9])["length"].tolist() == [9, 0, 5, 9]
    assert set(cache._open) == {1, 2}
    mapped = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if str(cache.path) in line}
    assert mapped <= {"rows-000001.safetensors", "rows-000002.safetensors"}
