"""Checkpoints are whole or absent, verified on the way in, and strict about keys."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from raekit import checkpoint
from raekit.errors import UserError


def saved(directory: Path) -> Path:
    checkpoint.save(directory, {"model": {"w": torch.arange(6.0)}, "ema": {"w": torch.ones(6)}}, {"step": 3})
    return directory


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    loaded = checkpoint.load(saved(tmp_path / "step"))
    assert loaded.state == {"step": 3}
    assert torch.equal(loaded.tensors["model"]["w"], torch.arange(6.0))


def test_a_full_disk_leaves_the_old_one_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = saved(tmp_path / "step")
    real = checkpoint.save_file

    def fails_at_ema(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name.startswith("ema"):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", fails_at_ema)
    with pytest.raises(UserError, match="the disk is full; free some space, nothing half-written was left"):
        checkpoint.save(target, {"model": {"w": torch.zeros(1)}, "ema": {"w": torch.zeros(1)}}, {"step": 4})
    assert checkpoint.load(target).state == {"step": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    target = saved(tmp_path / "step")
    content = bytearray((target / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (target / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="model.safetensors': missing or damaged"):
        checkpoint.load(target)


def test_another_directory_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable manifest.json"):
        checkpoint.load(tmp_path)


def test_a_truncated_weight_file_is_named(tmp_path: Path) -> None:
    target = saved(tmp_path / "step")
    path = target / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged or incomplete"):
        checkpoint.load_safetensors(path)


def test_strict_loading_lists_what_does_not_fit() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(UserError) as error:
        checkpoint.load_strict(layer, {"weight": torch.zeros(3, 2), "scale": torch.zeros(1)}, "file")
    message = str(error.value)
    assert "1 missing keys (bias" in message and "1 unexpected keys (scale" in message
    assert "weight is [3, 2], expected [2, 2]" in message


def test_only_keys_that_are_listed_may_be_missing() -> None:
    layer = nn.Linear(2, 2)
    bias = layer.bias.detach().clone()
    checkpoint.load_strict(layer, {"weight": torch.ones(2, 2)}, "file", optional=frozenset({"bias"}))
    assert torch.equal(layer.weight, torch.ones(2, 2)) and torch.equal(layer.bias, bias)
