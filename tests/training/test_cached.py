"""Cached training sees the same numbers as training from pictures and captions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny_autoencoders
import tiny_recipes
import two_ranks
from raekit import distributed
from raekit.autoencoder.rae import RAE
from raekit.conditioning.query import QueryConditioner
from raekit.data.dataset import build_dataset
from raekit.errors import UserError
from raekit.training import cached as cached_module
from raekit.training.draws import Draws
from raekit.training.stage2 import Stage2


def build(folder: Path, **changes: object) -> Stage2:
    values = {**tiny_recipes.stage2(folder, are_queries_trained=False), **changes}
    return Stage2(tiny_recipes.resolve(values), torch.device("cpu"))


def test_the_cache_holds_what_the_frozen_networks_give(tmp_path: Path) -> None:
    plain, cached = build(tmp_path), build(tmp_path, cache=str(tmp_path / "cache"))
    for stage in (plain, cached):
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in stage.generator.backbone.parameters():
                parameter.copy_(0.1 * torch.randn_like(parameter))
    cached.generator.conditioner.load_state_dict(plain.generator.conditioner.state_dict())
    for position in (0, 13):
        draws = Draws(0, range(position, position + 5))
        losses = [stage.loss(next(stage.batches(position, 5)), draws)["loss"] for stage in (plain, cached)]
        # text features are cached in bf16
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-3)
    plain_batch, cached_batch = next(plain.batches(3, 5)), next(cached.batches(3, 5))
    assert torch.equal(plain_batch.positions, cached_batch.positions)
    torch.testing.assert_close(plain.teller.latents(plain_batch, Draws(0, range(5))), cached_batch.latent)


def test_a_second_run_reads_what_the_first_one_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, cache=str(tmp_path / "cache"))
    monkeypatch.setattr("raekit.autoencoder.rae.RAE.encode", lambda *a: pytest.fail("encoded again"))
    build(tmp_path, cache=str(tmp_path / "cache"))


def test_a_second_run_decodes_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(build(tmp_path, cache=str(tmp_path / "cache")).batches(2, 4))
    monkeypatch.setattr("raekit.training.cached.read_readable", lambda *a: pytest.fail("read again"))
    second = next(build(tmp_path, cache=str(tmp_path / "cache")).batches(2, 4))
    assert torch.equal(first.latent, second.latent) and torch.equal(first.positions, second.positions)
    assert all(torch.equal(first.features[name], second.features[name]) for name in first.features)


def test_int8_latents_are_close_and_another_cache(tmp_path: Path) -> None:
    exact, rounded = (build(tmp_path, cache=str(tmp_path / "cache"), cache_precision=p) for p in ("fp32", "int8"))
    one, other = next(exact.batches(0, 4)).latent, next(rounded.batches(0, 4)).latent
    assert 0 < float((one - other).norm() / one.norm()) < 0.02


def test_what_is_of_use_only_without_its_caption_has_another_cache(tmp_path: Path) -> None:
    """A run told by captions passes over pictures that have none; one told by classes must not miss them."""
    settings = build(tmp_path).config.data
    told, untold = (cached_module._content_of(build_dataset(settings, is_captioned=told)) for told in (True, False))
    assert told["sources"] == untold["sources"] and told != untold


def test_unreadable_pictures_are_noted_while_the_cache_is_filled(tmp_path: Path) -> None:
    data = tiny_recipes.stage2(tmp_path)["data"]
    (tmp_path / "pictures" / "a.png").write_bytes(b"no picture")
    stage = build(tmp_path, cache=str(tmp_path / "cache"), data=data)
    assert stage.quarantine.counts() == {"folder": 1}
    assert stage.quarantine.path == tmp_path / "run" / "quarantine.jsonl"


def test_what_changes_each_epoch_cannot_be_cached(tmp_path: Path) -> None:
    data = {**tiny_recipes.stage2(tmp_path)["data"], "mirror": True}
    with pytest.raises(UserError, match="data.mirror: pictures that change each epoch cannot be cached"):
        build(tmp_path, cache=str(tmp_path / "cache"), data=data)


def test_a_latent_space_that_draws_cannot_be_cached(tmp_path: Path) -> None:
    latent_space = tiny_autoencoders.build("kl_vae", tmp_path, posterior="sample")
    latent_space.save(tmp_path / "vae")
    with pytest.raises(UserError, match="cache: this latent space draws another latent each time.*posterior: mean"):
        build(tmp_path, cache=str(tmp_path / "cache"), latent_space=str(tmp_path / "vae"))


def test_trained_queries_cannot_be_cached(tmp_path: Path) -> None:
    values = {**tiny_recipes.stage2(tmp_path), "cache": str(tmp_path / "cache")}
    with pytest.raises(UserError, match="are_queries_trained: false"):
        Stage2(tiny_recipes.resolve(values), torch.device("cpu"))


def test_processes_share_each_micro_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = build(tmp_path, cache=str(tmp_path / "cache"))
    whole = next(stage.batches(5, 4))
    monkeypatch.setattr("raekit.distributed.world", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("raekit.distributed.rank", lambda rank=rank: rank)
        batches = stage.batches(5, 4)
        part, following = next(batches), next(batches)
        assert part.positions.tolist() == whole.positions[2 * rank : 2 * rank + 2].tolist()
        assert torch.equal(part.latent, whole.latent[2 * rank : 2 * rank + 2])
        assert following.positions[0] == part.positions[0] + 4
    with pytest.raises(UserError, match="micro_batch_size: 3 samples cannot be shared evenly by 2 processes"):
        next(stage.batches(0, 3))


def fill(values: dict[str, Any], folder: Path) -> None:
    """Two processes of one run fill a cache; then each of them, a run of its own now, fills another beside the other.

    How many pictures and captions a process has read lies in ``RUNS-RANK``, with its first rows.
    """
    rank, counts = int(os.environ["RANK"]), {"pictures": 0, "captions": 0}
    encode, features = RAE.encode, QueryConditioner.features

    def encode_and_count(self: RAE, image: Tensor) -> Tensor:
        counts["pictures"] += len(image)
        return encode(self, image)

    def read_and_count(self: QueryConditioner, prompts: Sequence[str]) -> dict[str, Tensor]:
        counts["captions"] += len(prompts)
        return features(self, prompts)

    RAE.encode, QueryConditioner.features = encode_and_count, read_and_count  # type: ignore[method-assign]
    cached_module.CHUNK_ROWS = 2
    distributed.join(torch.device("cpu"))
    for runs in ("one", "two"):
        counts |= {"pictures": 0, "captions": 0}
        own = {**values, "run": str(folder / f"run-{runs}-{rank}"), "cache": str(folder / f"cache-{runs}")}
        rows = first_rows(Stage2(tiny_recipes.resolve(own), torch.device("cpu")))
        save_file({**rows, **{name: torch.tensor(n) for name, n in counts.items()}}, folder / f"{runs}-{rank}")
        distributed.barrier()
        distributed.leave()


def first_rows(stage: Stage2) -> dict[str, Tensor]:
    assert stage.cached is not None
    batch = stage.cached._batch(range(8))
    return {"latent": batch.latent, **batch.features}


def test_who_fills_a_cache_beside_others_does_nothing_twice_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny_recipes.stage2(tmp_path, are_queries_trained=False)
    expected = first_rows(build(tmp_path, cache=str(tmp_path / "cache-alone")))
    two_ranks.run(fill, values, tmp_path)
    shares = [load_file(tmp_path / f"one-{rank}") for rank in range(2)]
    assert [int(share["pictures"]) for share in shares] == [int(share["captions"]) for share in shares] == [4, 4]
    for runs in ("one", "two"):
        for rank in range(2):
            found = load_file(tmp_path / f"{runs}-{rank}")
            torch.testing.assert_close(found["latent"], expected["latent"], rtol=1e-5, atol=1e-5)
            # In bf16, and padded to other lengths.
            torch.testing.assert_close(found["features"], expected["features"], rtol=1e-2, atol=1e-3)
    # Every file is whole: all are compared with their checksums, and nothing is computed again.
    monkeypatch.setattr(cached_module, "CHUNK_ROWS", 2)
    monkeypatch.setattr(RAE, "encode", lambda *a: pytest.fail("encoded again"))
    monkeypatch.setattr(QueryConditioner, "features", lambda *a: pytest.fail("read again"))
    for runs in ("one", "two"):
        build(tmp_path, cache=str(tmp_path / f"cache-{runs}"))
        assert not list((tmp_path / f"cache-{runs}").rglob(".*"))
