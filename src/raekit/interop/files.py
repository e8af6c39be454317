"""Reading other systems' weight files: one flat dictionary of tensors, whatever they were wrapped in.

In: a ``.pt`` / ``.pth`` file (read with ``weights_only=True``) or ``.safetensors``. Out: tensors by their author's
names, without the prefixes that training wrappers add.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raekit.checkpoint import load_safetensors
from raekit.errors import UserError

WRAPPERS = ("ema", "model", "state_dict", "module")
"""Keys of training checkpoints that hold the weights, best first: a published decoder is the moving average."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that data-parallel training and ``torch.compile`` add."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, unwrapped.

    Raises:
        UserError: no such file, a damaged one, one that needs unpickling code, or one without tensors.
    """
    path = Path(path)
    content = load_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    tensors = unwrap(content)
    if not tensors:
        raise UserError(f"weights {str(path)!r}: holds no tensors; name a file of weights")
    return tensors


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The innermost dictionary of weights, its keys without wrapper prefixes; what is no tensor is left out."""
    while (inner := next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)) is not None:
        content = content[inner]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return {_without(key, WRAPPER_PREFIXES): value for key, value in tensors.items()}


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix`` without it; all of them if none has it."""
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return found or dict(tensors)


def check_keys(
    found: Iterable[str], expected: Iterable[str], source: str, optional: frozenset[str] = frozenset()
) -> None:
    """Compare key sets in the author's own names.

    Raises:
        UserError: missing keys other than ``optional``, or unexpected ones, at most three of each named.
    """
    found, expected = set(found), set(expected)
    parts = []
    for what, keys in (("missing", expected - found - optional), ("unexpected", found - expected)):
        if keys:
            parts.append(f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{' ...' if len(keys) > 3 else ''})")
    if parts:
        raise UserError(f"{source}: the keys do not fit: {'; '.join(parts)}; check that it is the right file")


def _without(key: str, prefixes: tuple[str, ...]) -> str:
    while (prefix := next((p for p in prefixes if key.startswith(p)), None)) is not None:
        key = key.removeprefix(prefix)
    return key


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"weights {str(path)!r}: no such file; check the path") from None
    except Exception as error:  # a damaged file raises almost anything, from EOFError to UnpicklingError
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"weights {str(path)!r}: not safely readable ({reason}); download it again") from error
    if not isinstance(content, Mapping):
        raise UserError(f"weights {str(path)!r}: holds a {type(content).__name__}; name a file of weights")
    return content
