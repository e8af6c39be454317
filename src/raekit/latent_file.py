"""A latent on disk, and the latent space that it means something in.

In: a latent ``[C,h,w]``. Out: the same from a file, whole or refused. It is a safetensors file with the one tensor
``latent``, and in its metadata ``format``, ``version``, ``latent_space`` (the checksum of the autoencoder: the same
numbers are another picture in another latent space) and ``raekit`` (how it was made, as JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from raekit.errors import UserError
from raekit.files import atomic_file

FORMAT, VERSION = "raekit-latent", "1"


@dataclass(frozen=True)
class Latent:
    """A latent and where it comes from.

    Attributes:
        tensor: ``[C,h,w]`` float32.
        latent_space: checksum of the autoencoder whose latent it is; None where whoever made it vouches for it.
        made: prompt, seed, settings ...; empty if it was not drawn.
        path: of its file; None of one that was never saved.
    """

    tensor: Tensor
    latent_space: str | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def check(self, checksum: str, shape: tuple[int, ...]) -> None:
        """Refuse a latent that means something else in a model's latent space.

        Args:
            checksum: of the model's latent space.
            shape: of its latents, ``(C, h, w)``.

        Raises:
            UserError: another latent space, or another shape; both are named.
        """
        name = "" if self.path is None else f" {str(self.path)!r}"
        if self.latent_space is not None and self.latent_space != checksum:
            raise UserError(
                f"latent{name} lies in the latent space {_named(self.latent_space)}, but the model's is "
                f"{_named(checksum)}; give the model that drew it, or decode it there and give the picture"
            )
        if tuple(self.tensor.shape) != tuple(shape):
            raise UserError(
                f"latent{name}: {list(self.tensor.shape)}, but the model's latents are {list(shape)}; give one that "
                "was drawn in its latent space"
            )


def save(path: Path, latent: Tensor, latent_space: str, made: Mapping[str, Any] | None = None) -> Path:
    """Write a latent, all or nothing; returns the path.

    Args:
        path: of the file, replaced if it is there.
        latent: ``[C,h,w]``.
        latent_space: checksum of the autoencoder whose latent it is.
        made: how it was made, JSON-able.

    Raises:
        UserError: the disk is full or the place is not writable.
    """
    metadata = {"format": FORMAT, "version": VERSION, "latent_space": latent_space, "raekit": json.dumps(made or {})}
    with atomic_file(path) as temporary:
        save_file({"latent": latent.detach().float().cpu().contiguous()}, temporary, metadata=metadata)
    return path


def load(path: str | Path) -> Latent:
    """Read what :func:`save` wrote.

    Raises:
        UserError: no such file, damaged, no latent in it, or one that does not say its latent space.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"latent {str(path)!r}: no such file; name one that `raekit generate --output latent` wrote")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            latent = opened.get_tensor("latent") if "latent" in opened.keys() else None
        made = json.loads(metadata.get("raekit", "{}"))
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"latent {str(path)!r}: no safetensors file, or a damaged one ({error}); save it again"
        ) from None
    if latent is None or metadata.get("format") != FORMAT or "latent_space" not in metadata:
        raise UserError(
            f"latent {str(path)!r} does not say which latent space it lies in; save it again with "
            "`raekit generate --output latent`"
        )
    if metadata.get("version") != VERSION:
        raise UserError(
            f"latent {str(path)!r}: version {metadata.get('version')}, this raekit reads {VERSION}; update raekit"
        )
    if latent.ndim != 3 or not bool(torch.isfinite(latent).all()):
        raise UserError(f"latent {str(path)!r}: {list(latent.shape)} is no finite latent [C,h,w]; save it again")
    return Latent(latent.float(), metadata["latent_space"], made, path)


def _named(checksum: str) -> str:
    return checksum[:12] or "one that was never saved"
