"""Latent statistics of every published form, converted by what they divide by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from raekit.autoencoder.latent import LatentStatistics
from raekit.errors import UserError
from raekit.interop.ledger import Ledger
from raekit.interop.statistics import (
    diffusers_statistics,
    export_running_statistics,
    export_statistics,
    fitted,
    import_statistics,
    is_identity,
    published_var,
    take_statistics,
)


def published() -> LatentStatistics:
    return LatentStatistics(torch.randn(3, 2, 2), torch.rand(3, 2, 2))


def same(a: LatentStatistics, b: LatentStatistics) -> bool:
    return torch.equal(a.mean, b.mean) and torch.equal(a.var, b.var) and a.eps == b.eps


@pytest.mark.parametrize("export", [export_statistics, export_running_statistics])
@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 1, 1)])
def test_round_trip_is_bit_exact(export, shape: tuple[int, ...], tmp_path: Path) -> None:
    statistics = LatentStatistics(torch.randn(shape), torch.rand(shape))
    export(statistics, tmp_path / "stat.pt")
    assert same(import_statistics(tmp_path / "stat.pt"), statistics)


@pytest.mark.parametrize(
    ("content", "mean", "var"),
    [
        ({"mean": torch.full((1, 3, 2, 2), 2.0)}, 2, 1),
        ({"var": torch.full((3, 1, 1), 4.0)}, 0, 4),
        ({"mean": torch.full((3, 2, 2), 2.0), "var": torch.full((3, 1, 1), 4.0)}, 2, 4),
        ({"running_mean": torch.full((4, 3), 2.0), "running_var": torch.full((4, 3), 4.0)}, 2, 4),
    ],
)
def test_all_forms(content: dict[str, Tensor], mean: float, var: float, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "stat.pt")
    found = import_statistics(tmp_path / "stat.pt")
    assert found.mean.shape[0] == 3 and (found.mean == mean).all() and (found.var == var).all()
    assert found.eps == 1e-5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"mean": torch.zeros(3)}, r"shape \[3\], expected \[C,h,w\]"),
        ({"mean": torch.zeros(1, 1, 1), "std": torch.ones(1)}, r"1 unexpected \(std\)"),
        ({"mean": torch.zeros(3, 2, 2), "var": torch.ones(3, 4, 4)}, "check that it is a statistics file"),
    ],
)
def test_other_files_are_refused(content: dict[str, Tensor], sentence: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "stat.pt")
    with pytest.raises(UserError, match=sentence):
        import_statistics(tmp_path / "stat.pt")


def test_an_own_epsilon_moves_into_the_published_variance() -> None:
    z = torch.randn(2, 3, 2, 2)
    exact = LatentStatistics(torch.randn(3, 2, 2), torch.rand(3, 2, 2) + 0.01, eps=0.0)
    theirs = LatentStatistics(exact.mean, published_var(exact))
    assert theirs.eps == 1e-5 and torch.allclose(theirs.normalise(z), exact.normalise(z), rtol=1e-6, atol=1e-6)
    with pytest.raises(UserError, match="standard deviation below 0.0032"):
        published_var(LatentStatistics(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 1e-6), eps=0.0))


def test_double_epsilon_of_diffusers() -> None:
    """Its latents are those of its own formula to rounding, whichever epsilon lies in ``std`` already."""
    z, statistics = torch.randn(2, 3, 2, 2), published()
    tensors = diffusers_statistics(statistics)
    diffusers = (z - tensors["_latents_mean"]) / (tensors["_latents_std"] + 1e-5)
    assert torch.allclose(diffusers, statistics.normalise(z), rtol=1e-6, atol=1e-6)
    again = take_statistics(Ledger(tensors, "weights"))
    assert torch.allclose(again.normalise(z), diffusers, rtol=1e-6, atol=1e-6)
    published_std = {"_latents_mean": statistics.mean, "_latents_std": torch.sqrt(statistics.var + 1e-5)}
    converted = take_statistics(Ledger(published_std, "weights"))
    ratio = statistics.normalise(z) / converted.normalise(z) - 1
    assert torch.allclose(ratio, 1e-5 / published_std["_latents_std"].expand_as(ratio), atol=1e-6)


def test_buffers_of_diffusers_come_back_bit_for_bit() -> None:
    """Squares of float32 numbers, rounded once, give their roots back exactly."""
    std = torch.rand(100_000) * 10 ** torch.empty(100_000).uniform_(-2, 2) + 0.004
    tensors = {"_latents_mean": torch.randn(1000, 10, 10), "_latents_std": std.view(1000, 10, 10)}
    again = diffusers_statistics(take_statistics(Ledger(tensors, "weights")))
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)


def test_defaults_of_diffusers() -> None:
    """Without statistics diffusers divides by 1.00001; ours, which divide by one, are written as what gives one."""
    default = {"_latents_mean": torch.zeros(1), "_latents_std": torch.ones(1)}
    found = fitted(take_statistics(Ledger(default, "weights")), (3, 2, 2), "weights")
    assert not is_identity(found) and found.form == "per_channel" and len(found.mean) == 3
    assert torch.allclose(found.normalise(torch.ones(1, 3, 2, 2)), torch.tensor(1 / 1.00001), atol=1e-7)
    assert all(torch.equal(diffusers_statistics(found)[key], default[key]) for key in default)
    none = diffusers_statistics(LatentStatistics.identity(3))
    assert none["_latents_std"] + torch.tensor(1e-5) == 1
    assert is_identity(fitted(take_statistics(Ledger(none, "weights")), (3, 2, 2), "weights"))


def test_a_scaling_factor_is_folded_in() -> None:
    tensors = {"_latents_mean": torch.randn(3, 2, 2), "_latents_std": torch.rand(3, 2, 2) + 0.1}
    z = torch.randn(1, 3, 2, 2)
    theirs = (z - tensors["_latents_mean"]) / (tensors["_latents_std"] + 1e-5) * 0.25
    assert torch.allclose(take_statistics(Ledger(tensors, "weights"), 0.25).normalise(z), theirs, atol=1e-6)


def test_statistics_of_another_latent_are_refused() -> None:
    with pytest.raises(UserError, match=r"made for latents \[3, 2, 2\], these are \[3, 4, 4\]"):
        fitted(published(), (3, 4, 4), "weights")
    assert fitted(published(), (3, 2, 2), "weights").form == "per_position"
