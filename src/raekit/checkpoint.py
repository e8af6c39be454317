"""Tensors on disk: safetensors files plus a JSON manifest, atomic, checksummed, strict.

In: named groups of tensors (``model``, ``ema``, ``optimizer`` ...) and a JSON-able state. Out: one directory that is
either complete or absent (:mod:`raekit.files`): a crash or a full disk while saving leaves the previous checkpoint as
it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raekit.errors import UserError
from raekit.files import atomic_directory, sha256

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What :func:`load` returns: tensor groups by file name, and the JSON state."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(directory: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write ``<group>.safetensors`` for each group and a manifest with their SHA-256, all or nothing.

    Raises:
        UserError: the disk is full or the place is not writable; nothing half-written is left.
    """
    with atomic_directory(directory) as temporary:
        for group, values in tensors.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in values.items()}, temporary / f"{group}.safetensors")
        files = {f"{group}.safetensors": sha256(temporary / f"{group}.safetensors") for group in tensors}
        text = json.dumps({"format": "raekit-checkpoint", "version": 1, "files": files, "state": dict(state)}, indent=1)
        (temporary / MANIFEST).write_text(text, encoding="utf-8")


def load(directory: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint that :func:`save` wrote, verifying every checksum.

    Raises:
        UserError: not a checkpoint, or a damaged file (named).
    """
    manifest = read_manifest(directory)
    tensors = {}
    for name, digest in manifest["files"].items():
        path = directory / name
        if not path.is_file() or sha256(path) != digest:
            raise UserError(f"checkpoint {str(path)!r}: missing or damaged; use an older checkpoint of this run")
        tensors[path.stem] = load_file(path, device=str(device))
    return Checkpoint(tensors, manifest["state"])


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a checkpoint directory, without its tensors."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"checkpoint {str(directory)!r}: no readable {MANIFEST} ({error}); name a step_* directory"
        ) from None
    if manifest.get("format") != "raekit-checkpoint":
        raise UserError(f"checkpoint {str(directory)!r}: {MANIFEST} is not of a raekit checkpoint")
    return dict(manifest)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """One safetensors file, or a :class:`UserError` that names it when it is missing or cut short."""
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"weights {str(path)!r}: no such file; check the model directory") from None
    except SafetensorError as error:
        raise UserError(f"weights {str(path)!r}: damaged or incomplete ({error}); copy the file again") from None


def load_strict(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, optional: frozenset[str] = frozenset()
) -> None:
    """Load a state dict in which every key must match, but for the keys listed in ``optional``.

    Raises:
        UserError: missing, unexpected or wrongly shaped keys, at most three of each named.
    """
    own = module.state_dict()
    problems = []
    if missing := sorted(own.keys() - tensors.keys() - optional):
        problems.append(f"{len(missing)} missing keys ({', '.join(missing[:3])} ...)")
    if unexpected := sorted(tensors.keys() - own.keys()):
        problems.append(f"{len(unexpected)} unexpected keys ({', '.join(unexpected[:3])} ...)")
    shapes = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    problems += [f"{k} is {list(tensors[k].shape)}, expected {list(own[k].shape)}" for k in sorted(shapes)[:3]]
    if problems:
        raise UserError(f"{source}: does not fit this {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict({k: tensors.get(k, v) for k, v in own.items()})
