"""Reading other systems' weight files: one flat dictionary of tensors, whatever they were wrapped in.

In: a ``.pt``, ``.pth`` or ``.bin`` file (read with ``weights_only=True``), ``.safetensors``, or the index of a model
that lies in several of either. Out: tensors by their author's names, without the prefixes that training wrappers add,
and what was wrapped around them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raekit.checkpoint import load_safetensors, name_some
from raekit.errors import UserError
from raekit.interop.ledger import Ledger

WRAPPERS = ("ema", "model", "state_dict", "module")
"""Keys of training checkpoints that hold the weights, best first: a published decoder is the moving average."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that data-parallel training and ``torch.compile`` add."""

WRAPPER_SEGMENT = "_orig_module."
"""What training on TPUs puts in the middle of a key, once for each wrapped module."""

COMPRESSED = (".zstd", ".zst")

INDEX = ".index.json"
"""End of the name of a file that says which shard holds which key."""


def read_ledger(path: Path) -> Ledger:
    """The tensors of a weight file, unwrapped, none of them accounted for yet but what the wrappers held.

    Raises:
        UserError: no such file, a damaged one, one that needs unpickling code, one without tensors, or an index some of
            whose shards are missing or hold other keys than it says.
    """
    path = Path(path)
    content = _read_shards(path) if path.name.endswith(INDEX) else _read_file(path)
    ledger = unwrap(content, f"weights {str(path)!r}")
    if not ledger.tensors:
        raise UserError(f"{ledger.source}: holds no tensors; name a file of weights")
    return ledger


def read_tensors(path: Path) -> dict[str, Tensor]:
    """As :func:`read_ledger`, the tensors alone."""
    return read_ledger(path).tensors


def unwrap(content: Mapping[str, Any], source: str = "weights") -> Ledger:
    """The innermost dictionary of weights, its keys without wrapper prefixes.

    Beside it in a training checkpoint lie optimiser, counters and perhaps a second copy of the weights; they, and what
    is no tensor, are left out and said to be.

    Raises:
        UserError: the same weights are there with and without a prefix.
    """
    left_out: dict[str, str] = {}
    while (inner := next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)) is not None:
        left_out |= {str(key): _why_not(key, inner) for key in content if key != inner}
        content = content[inner]
    found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    tensors = {_bare(key): value for key, value in found.items()}
    if len(tensors) < len(found):
        raise UserError(f"{source}: holds some weights twice, with and without a wrapper's prefix; name another file")
    left_out |= {str(key): "no tensor" for key, value in content.items() if not isinstance(value, Tensor)}
    return Ledger(tensors, source, left_out)


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
            parts.append(f"{len(keys)} {what} ({name_some(keys)})")
    if parts:
        raise UserError(f"{source}: the keys do not fit: {'; '.join(parts)}; check that it is the right file")


def _why_not(key: str, inner: str) -> str:
    return f"weights too, but {inner!r} comes first" if key in WRAPPERS else "state of the training run, no weights"


def _bare(key: str) -> str:
    while (prefix := next((p for p in WRAPPER_PREFIXES if key.startswith(p)), None)) is not None:
        key = key.removeprefix(prefix)
    return key.replace(WRAPPER_SEGMENT, "")


def _read_shards(index: Path) -> dict[str, Any]:
    """The tensors of all shards that an index names."""
    shards: dict[str, set[str]] = {}
    for key, shard in _weight_map(index).items():
        shards.setdefault(shard, set()).add(key)
    if missing := [name for name in shards if not (index.parent / name).is_file()]:
        raise UserError(
            f"weights {str(index)!r}: {len(missing)} of {len(shards)} shards are missing ({name_some(missing)}); copy "
            "them beside it"
        )
    tensors: dict[str, Any] = {}
    for name, keys in sorted(shards.items()):
        found = _read_file(index.parent / name)
        check_keys(found, keys, f"weights {str(index.parent / name)!r}, against its index")
        tensors |= found
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Key to the name of its shard."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"weights {str(index)!r}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise UserError(f"weights {str(index)!r} is not valid JSON ({error}); copy it again") from None
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise UserError(f"weights {str(index)!r}: it has no weight_map from keys to shards; copy it again")
    return found


def _read_file(path: Path) -> Mapping[str, Any]:
    if path.suffix in COMPRESSED:
        raise UserError(f"weights {str(path)!r}: it is compressed; unpack it with `zstd -d {path.name}`")
    return load_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"weights {str(path)!r}: no such file; check the path") from None
    except Exception as error:  # a damaged file raises almost anything, from EOFError to UnpicklingError
        raise UserError(
            f"weights {str(path)!r}: not safely readable: damaged, no file of torch.save, or one that holds more than "
            "tensors and could run code; download it again, or name a safetensors file"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"weights {str(path)!r}: holds a {type(content).__name__}; name a file of weights")
    return content
