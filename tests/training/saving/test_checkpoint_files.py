"""Checkpoints are whole or absent, verified on the way in, and read by any number of processes."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import two_ranks
from raekit import distributed
from raekit.errors import UserError
from raekit.training.parallel.peers import Peers
from raekit.training.saving import checkpoint_files

TENSORS = {"model/w": torch.arange(6.0).view(3, 2), "ema/w": torch.ones(6), "optimizer/step": torch.tensor(3.0)}


def saved(directory: Path) -> Path:
    checkpoint_files.write(directory, TENSORS | {"rng/empty": torch.zeros(0)}, {"step": 3}, Peers())
    return directory


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    loaded = checkpoint_files.load(saved(tmp_path / "step"))
    assert loaded.state == {"step": 3}
    assert loaded.tensors.keys() == {"model", "ema", "optimizer", "rng"}
    for key, value in TENSORS.items():
        group, _, name = key.partition("/")
        assert torch.equal(loaded.tensors[group][name], value)
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_a_full_disk_leaves_the_old_one_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved(tmp_path / "step_1")

    def fails(self: Any, *arguments: Any) -> None:
        (Path(self.path) / "__0_0.distcp").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileSystemWriter, "write_data", fails)
    with pytest.raises(UserError, match="step_2': the disk is full; free some space, nothing half-written was left"):
        saved(tmp_path / "step_2")
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]
    assert checkpoint_files.damage(old, Peers()) is None


def test_every_kind_of_damage_is_named(tmp_path: Path) -> None:
    assert checkpoint_files.damage(saved(tmp_path / "whole"), Peers()) is None

    flipped = saved(tmp_path / "flipped") / "__0_0.distcp"
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    assert checkpoint_files.damage(flipped.parent, Peers()) == "__0_0.distcp does not match its checksum"
    with pytest.raises(UserError, match="flipped': __0_0.distcp does not match its checksum; use an older"):
        checkpoint_files.load(flipped.parent)

    cut = saved(tmp_path / "cut") / "__0_0.distcp"
    size = cut.stat().st_size
    os.truncate(cut, size - 1)
    assert checkpoint_files.damage(cut.parent, Peers()) == f"__0_0.distcp has {size - 1} bytes, not {size}"

    (saved(tmp_path / "index") / ".metadata").unlink()
    assert checkpoint_files.damage(tmp_path / "index", Peers()) == ".metadata is missing"

    (saved(tmp_path / "manifest") / "manifest.json").write_text("{")
    assert "no readable manifest.json" in str(checkpoint_files.damage(tmp_path / "manifest", Peers()))
    (tmp_path / "manifest" / "manifest.json").write_text("{}")
    assert checkpoint_files.damage(tmp_path / "manifest", Peers()) == "manifest.json is not of a checkpoint"


def test_another_format_is_not_damage_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "raekit-checkpoint", "version": 1}')
    with pytest.raises(UserError, match="format 'raekit-checkpoint', which this version does not read; go on with"):
        checkpoint_files.damage(tmp_path, Peers())


def test_tensors_are_dealt_out_by_size() -> None:
    sizes = {"a": 8, "b": 5, "c": 4, "d": 3}
    owners = checkpoint_files.dealt(sizes, 2)
    assert owners == checkpoint_files.dealt(dict(reversed(sizes.items())), 2)
    assert sorted(sum(sizes[n] for n in sizes if owners[n] == rank) for rank in range(2)) == [9, 11]


def matrix() -> Tensor:
    return torch.arange(30.0).view(5, 6)


def write_sharded(directory: Path) -> None:
    distributed.join(torch.device("cpu"))
    mesh = init_device_mesh("cpu", (distributed.world(),))
    groups = {
        "model": {"sharded": distribute_tensor(matrix(), mesh, [Shard(0)]), "plain": torch.ones(7), "n": 0 * matrix()}
    }
    peers = Peers.meet()
    held = checkpoint_files.held_here(groups, peers)
    assert checkpoint_files.size_in_bytes(groups["model"].values()) == 4 * (30 + 7 + 30) + 3 * 4096
    # What all processes hold alike is written once: the large one by one process, the small one by the other.
    assert len(held) == 2 and "model/sharded" in held
    checkpoint_files.write(directory, held | {f"rng/{peers.rank}": torch.tensor([peers.rank])}, {"step": 1}, peers)
    assert sorted(path.name for path in directory.iterdir()) == [
        ".metadata", "__0_0.distcp", "__1_0.distcp", "manifest.json"
    ]  # fmt: skip
    largest = max(path.stat().st_size for path in directory.glob("*.distcp"))
    assert largest < sum(path.stat().st_size for path in directory.glob("*.distcp"))
    check_reading(directory)
    # One process finds the damage, both learn of it.
    peers.by_first(lambda: (directory / "__1_0.distcp").write_bytes(b""))
    assert "__1_0.distcp has 0 bytes" in str(checkpoint_files.damage(directory, peers))


def check_reading(directory: Path) -> None:
    """Sharded the other way round, and whole."""
    peers = Peers.meet()
    assert checkpoint_files.damage(directory, peers) is None
    mesh = init_device_mesh("cpu", (distributed.world(),))
    across = distribute_tensor(torch.zeros(5, 6), mesh, [Shard(1)])
    whole, plain = torch.zeros(5, 6), distribute_tensor(torch.zeros(7), mesh, [Replicate()])
    checkpoint_files.read_into(directory, {"model/sharded": across, "model/plain": plain}, peers)
    checkpoint_files.read_into(directory, {"model/sharded": whole}, peers)
    assert isinstance(across, DTensor) and torch.equal(across.full_tensor(), matrix())
    assert torch.equal(whole, matrix()) and torch.equal(plain.to_local(), torch.ones(7))


def test_two_processes_write_and_any_number_reads(tmp_path: Path) -> None:
    two_ranks.run(write_sharded, tmp_path / "step")
    piece = checkpoint_files.pieces(tmp_path / "step")["model/sharded"]
    assert (tuple(piece.shape), piece.dtype) == ((5, 6), torch.float32)


def test_one_process_reads_what_two_wrote_and_a_kill_while_writing_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="SIGKILL"):
        two_ranks.run(write_then_die, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step_2.partial", "step_1"]
    loaded = checkpoint_files.load(tmp_path / "step_1")
    assert torch.equal(loaded.tensors["model"]["sharded"], matrix())


def write_then_die(folder: Path) -> None:
    """One checkpoint; at the second, a process dies when its data are written and the manifest is not."""
    distributed.join(torch.device("cpu"))
    mesh, peers = init_device_mesh("cpu", (distributed.world(),)), Peers.meet()
    tensors = {"model/sharded": distribute_tensor(matrix(), mesh, [Shard(0)])}
    checkpoint_files.write(folder / "step_1", tensors, {"step": 1}, peers)
    checkpoint_files._described = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    checkpoint_files.write(folder / "step_2", tensors, {"step": 2}, peers)
