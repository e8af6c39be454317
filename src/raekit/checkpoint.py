"""Weights on their way in: safetensors files that are whole, and modules that they fit key by key.

In: a file, a module. Out: the module with the file's weights, or a sentence that says what is wrong. What a run of
training saves and reads lies in :mod:`raekit.training.saving.checkpoint_files`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raekit.errors import UserError

MAX_NAMED = 3
"""Keys that one sentence or one row names."""


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
        UserError: as :func:`check_fit`.
    """
    check_fit(module, tensors, source, optional)
    module.load_state_dict({k: tensors.get(k, v) for k, v in module.state_dict().items()})


def check_fit(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, optional: frozenset[str] = frozenset()
) -> None:
    """Refuse a state dict that a module, which may be an outline, could not load.

    Args:
        module: that would load it.
        tensors: by key.
        source: where they are from, to begin the sentence with.
        optional: keys that may be missing.

    Raises:
        UserError: missing, unexpected or wrongly shaped keys, at most three of each named.
    """
    own = module.state_dict()
    problems = []
    for what, keys in (
        ("missing", own.keys() - tensors.keys() - optional),
        ("unexpected", tensors.keys() - own.keys()),
    ):
        if keys:
            problems.append(f"{len(keys)} {what} {'key' if len(keys) == 1 else 'keys'} ({name_some(keys)})")
    shapes = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    wrong = {k: f"{k} is {list(tensors[k].shape)}, expected {list(own[k].shape)}" for k in shapes}
    problems += [name_some(wrong.values())] if wrong else []
    if problems:
        raise UserError(
            f"{source}: does not fit this {type(module).__name__}: {'; '.join(problems)}; copy it again, or check that "
            "settings and weights belong together"
        )


def name_some(names: Iterable[str]) -> str:
    """The first three of some names, in order, and how many more there are."""
    listed = sorted(names)
    more = len(listed) - MAX_NAMED
    return ", ".join(listed[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
