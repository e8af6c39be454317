"""A checkpoint on disk: each process writes what it holds, and the directory is whole or absent.

In: named groups of tensors (``model``, ``ema``, ``optimizer`` ...), plain or sharded (DTensor), and a JSON-able state.
Out: one directory that any number of processes can read again, each only what it needs:

    manifest.json      the state, and size and SHA-256 of every other file
    .metadata          which piece of which tensor lies where
    __0_0.distcp ...   one file for each process that wrote

No process ever holds the whole: a sharded tensor is written piece by piece by those that hold it, and tensors that all
of them hold alike are dealt out among them. The format is that of ``torch.distributed.checkpoint``, under a temporary
name until every file is on disk and its checksum in the manifest: a crash while writing leaves earlier checkpoints as
they were, and a leftover that is not taken for one.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from raekit.errors import UserError
from raekit.files import disk_sentence, flush, sha256
from raekit.training.parallel.peers import Peers

MANIFEST = "manifest.json"
FORMAT = "raekit-sharded-checkpoint"
INDEX = ".metadata"
OVERHEAD_BYTES = 4096
"""Of a tensor's place in a file, beside its values; generous."""

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group and name."""

warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


@dataclass(frozen=True)
class Checkpoint:
    """What :func:`load` returns: tensors by group and name, and the JSON state."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """Shape and arithmetic of a saved tensor."""

    shape: torch.Size
    dtype: torch.dtype


def held_here(groups: Groups, peers: Peers) -> dict[str, Tensor]:
    """What this process writes of tensors that all of them know, as ``group/name -> tensor``.

    Sharded ones all, since each process holds pieces of its own; of the others a share of about equal size, dealt out
    alike on every process.
    """
    flat = flattened(groups)
    whole = {key: value for key, value in flat.items() if not isinstance(value, DTensor)}
    owners = dealt({key: value.nbytes for key, value in whole.items()}, peers.world)
    return {key: value for key, value in flat.items() if owners.get(key, peers.rank) == peers.rank}


def dealt(sizes: Mapping[str, int], world: int) -> dict[str, int]:
    """An owner among ``world`` for every name, so that each has about the same sum of sizes."""
    loads, owners = [0] * world, {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += sizes[name]
    return owners


def flattened(groups: Groups) -> dict[str, Tensor]:
    """``group/name -> tensor``."""
    return {f"{group}/{name}": value.detach() for group, values in groups.items() for name, value in values.items()}


def size_in_bytes(tensors: Iterable[Tensor]) -> int:
    """Room that tensors need on disk; of sharded ones all pieces together."""
    return sum(tensor.numel() * tensor.element_size() + OVERHEAD_BYTES for tensor in tensors)


def write(directory: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], peers: Peers) -> None:
    """Write a checkpoint; all processes call it, each with what :func:`held_here` gave it and what only it has.

    Args:
        directory: of a checkpoint that is not there yet.
        tensors: ``group/name -> tensor``.
        state: of the first process; JSON-able.
        peers: all processes.

    Raises:
        UserError: on every process: no room, or no common place, for one of them.
    """
    partial = directory.with_name(f".{directory.name}.partial")
    peers.by_first(lambda: _make_afresh(partial))
    peers.by_each(lambda: _check_seen(partial))
    try:
        writer = FileSystemWriter(partial)
        state_dict_saver.save(
            dict(tensors), storage_writer=writer, process_group=peers.group, no_dist=peers.group is None
        )
    except (CheckpointException, OSError) as error:
        peers.by_first(lambda: shutil.rmtree(partial, ignore_errors=True))
        raise UserError(disk_sentence(directory, _cause(error))) from error
    written = peers.by_each(lambda: _described(partial, peers.rank))
    files = {name: entry for entries in written for name, entry in entries.items()}
    peers.by_first(lambda: _seal(partial, directory, {"files": files, "state": dict(state)}))


def damage(directory: Path, peers: Peers) -> str | None:
    """What is wrong with a checkpoint, in words, or None; every file is read once, by one process or another.

    Raises:
        UserError: nothing is, but it is of another version of this package.
    """
    found = peers.gathered(_damage(directory, peers.rank, peers.world))
    return next((reason for reason in found if reason is not None), None)


def read_state(directory: Path) -> dict[str, Any]:
    """The JSON state of a checkpoint."""
    return dict(_read_manifest(directory)["state"])


def pieces(directory: Path) -> dict[str, Piece]:
    """What tensors a checkpoint holds, as ``group/name -> Piece``."""
    entries = FileSystemReader(directory).read_metadata().state_dict_metadata
    found = {key: entry for key, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}
    return {key: Piece(entry.size, entry.properties.dtype) for key, entry in found.items()}


def read_into(directory: Path, tensors: Mapping[str, Tensor], peers: Peers) -> None:
    """Fill ``group/name -> tensor`` in place; sharded ones get their own pieces, however the writers were divided.

    All processes call it, each with the names that it wants.
    """
    reader = FileSystemReader(directory)
    state_dict_loader.load(dict(tensors), storage_reader=reader, process_group=peers.group, no_dist=peers.group is None)


def load(directory: Path) -> Checkpoint:
    """A whole checkpoint in memory, by one process; for looking into it.

    Raises:
        UserError: not a checkpoint, or damaged.
    """
    if (reason := damage(directory, Peers())) is not None:
        raise UserError(f"checkpoint {str(directory)!r}: {reason}; use an older checkpoint of this run")
    flat = {key: torch.empty(piece.shape, dtype=piece.dtype) for key, piece in pieces(directory).items()}
    read_into(directory, flat, Peers())
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in flat.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return Checkpoint(groups, read_state(directory))


def _make_afresh(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)  # there still, if the disk does not let go of something in it
    except OSError as error:
        raise UserError(disk_sentence(folder, error)) from error


def _check_seen(folder: Path) -> None:
    """Every process writes into the directory that the first one made."""
    if not folder.is_dir():
        raise UserError(
            f"run directory {str(folder.parents[1])!r}: not every process sees it; put it on a file system that all "
            "machines share"
        )


def _described(partial: Path, rank: int) -> dict[str, dict[str, Any]]:
    """Size and checksum of the files that this process wrote."""
    try:
        mine = sorted(partial.glob(f"__{rank}_*")) + ([partial / INDEX] if rank == 0 else [])
        return {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in mine}
    except OSError as error:
        raise UserError(disk_sentence(partial, error)) from error


def _seal(partial: Path, directory: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest and give the directory its name; what was there is set aside until then."""
    try:
        manifest = partial / MANIFEST
        manifest.write_text(json.dumps({"format": FORMAT, "version": 1, **content}, indent=1), encoding="utf-8")
        flush(manifest)
        flush(partial)
        partial.rename(directory)
        flush(directory.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(disk_sentence(directory, error)) from error


def _read_manifest(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / MANIFEST).read_text(encoding="utf-8")))


def _damage(directory: Path, rank: int, world: int) -> str | None:
    """The part of :func:`damage` that falls to one process."""
    try:
        manifest = _read_manifest(directory)
    except (OSError, ValueError) as error:
        return f"no readable {MANIFEST} ({error})"
    if "format" not in manifest:
        return f"{MANIFEST} is not of a checkpoint"
    if manifest["format"] != FORMAT:
        raise UserError(
            f"checkpoint {str(directory)!r}: has the format {manifest['format']!r}, which this version does not "
            "read; go on with the version of raekit that wrote it, or start anew with --run DIR"
        )
    names = sorted(manifest["files"])
    for name in names[rank::world]:
        try:
            if (reason := _unlike(directory / name, manifest["files"][name])) is not None:
                return reason
        except OSError as error:
            return f"{name} cannot be read ({error.strerror or error})"
    return None


def _unlike(path: Path, entry: Mapping[str, Any]) -> str | None:
    """How a file differs from what the manifest says of it, in words, or None."""
    if not path.is_file():
        return f"{path.name} is missing"
    if (size := path.stat().st_size) != entry["bytes"]:
        return f"{path.name} has {size} bytes, not {entry['bytes']}"
    return f"{path.name} does not match its checksum" if sha256(path) != entry["sha256"] else None


def _cause(error: BaseException) -> Exception:
    """The first process's own error, out of what the processes told one another."""
    if isinstance(error, CheckpointException):
        return next((cause for cause, _ in error.failures.values() if isinstance(cause, Exception)), RuntimeError())
    return error if isinstance(error, Exception) else RuntimeError(str(error))
