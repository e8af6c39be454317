"""Weights on their way in: safetensors files that are whole, and modules that they fit key by key.

In: a file, a module. Out: the module with the file's weights, or a sentence that says what is wrong. What a run of
training saves and reads lies in :mod:`raekit.training.saving.checkpoint_files`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raekit.errors import UserError


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
    if missing := sorted(own.keys() - tensors.keys() - optional):
        problems.append(f"{len(missing)} missing keys ({', '.join(missing[:3])} ...)")
    if unexpected := sorted(tensors.keys() - own.keys()):
        problems.append(f"{len(unexpected)} unexpected keys ({', '.join(unexpected[:3])} ...)")
    shapes = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    problems += [f"{k} is {list(tensors[k].shape)}, expected {list(own[k].shape)}" for k in sorted(shapes)[:3]]
    if problems:
        raise UserError(f"{source}: does not fit this {type(module).__name__}: {'; '.join(problems)}")
