from __future__ import annotations

import pytest
import torch

from raekit.data.cache import TensorCache
from raekit.errors import UserError

KEY = {"encoder": "abc", "size": 64}


def open_cache(folder, key=KEY, num_rows: int = 10) -> TensorCache:
    return TensorCache(folder, key, num_rows, rows_per_chunk=4)


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


def test_anything_else_is_another_cache(tmp_path) -> None:
    fill(open_cache(tmp_path))
    assert not open_cache(tmp_path, {**KEY, "encoder": "abd"}).is_complete
    assert not open_cache(tmp_path, num_rows=11).is_complete


def test_a_wrong_number_of_rows_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="latent has 4 rows"):
        open_cache(tmp_path).write(range(8, 10), rows_of(range(4)))
