"""A latent space on disk: one directory of ``config.json`` and ``model.safetensors``, all or nothing.

In: what identifies the latent space (a JSON-able mapping) and its tensors. Out: the same, after the checksum over both
was verified. The checksum is over contents, not over file bytes, so it survives a rewrite of the same values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from raekit import shipped
from raekit.checkpoint import load_safetensors
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.hub import local_model, part

FORMAT = "raekit-autoencoder"
VERSION = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
BUNDLED = "models/nano/autoencoder"
"""The latent space that ships inside the package."""


def locate(model: str | Path | None = None) -> Path:
    """The directory of a latent space as a user names it; by default the bundled nano one.

    Args:
        model: a directory, here or one that ships; a hub id; or either of a whole model that holds it as
            ``autoencoder/``.

    Raises:
        UserError: a hub repository that cannot be had.
    """
    return shipped.PACKAGE / BUNDLED if model is None else part(local_model(model), "autoencoder")


def write(directory: Path, identity: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Write the directory in one step and return its checksum (64 hex digits).

    Raises:
        UserError: the disk is full or the place is not writable; nothing half-written is left.
    """
    stored = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    content = {"format": FORMAT, "version": VERSION, **identity}
    digest = checksum(content, stored)
    with atomic_directory(directory) as temporary:
        save_file(stored, temporary / WEIGHTS_FILE)
        text = json.dumps({**content, "checksum": digest}, indent=1)
        (temporary / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    return digest


def read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The identity (with its ``checksum``) and the tensors of a directory that :func:`write` made.

    Raises:
        UserError: not such a directory, a newer version of the format, or contents that do not match the checksum.
    """
    identity = read_identity(directory)
    tensors = load_safetensors(directory / WEIGHTS_FILE)
    content = {key: value for key, value in identity.items() if key != "checksum"}
    if checksum(content, tensors) != identity.get("checksum"):
        raise UserError(f"autoencoder {str(directory)!r}: contents do not match the checksum; copy or save it again")
    return identity, tensors


def read_identity(directory: Path) -> dict[str, Any]:
    """The contents of ``config.json`` alone, not verified."""
    path = directory / CONFIG_FILE
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"autoencoder {str(directory)!r}: no {CONFIG_FILE} to read ({error}); check its path") from None
    if not isinstance(identity, dict) or identity.get("format") != FORMAT:
        raise UserError(f"autoencoder {str(directory)!r}: {CONFIG_FILE} is not of a raekit autoencoder; check the path")
    if identity["version"] != VERSION:
        raise UserError(
            f"autoencoder {str(directory)!r}: version {identity['version']}, this raekit reads {VERSION}; update raekit"
        )
    return identity


def checksum(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the canonical JSON and every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
