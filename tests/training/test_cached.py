"""Cached training sees the same numbers as training from pictures and captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_autoencoders
import tiny_recipes
from raekit.errors import UserError
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
    torch.testing.assert_close(plain._read(plain_batch, Draws(0, range(5)))[0], cached_batch.latent)


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
    with pytest.raises(UserError, match="micro_batch_size: 3 cannot be shared by 2 processes"):
        next(stage.batches(0, 3))
