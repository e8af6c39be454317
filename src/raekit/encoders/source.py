"""Where an encoder's weights come from: a local directory, the installed package, or a hub id.

In: the ``path`` of an encoder's config, or the size and resolution of a published checkpoint. Out: a transformers model
in float32 whose weights are complete, or one sentence that says what to do. Also the fingerprint that ties a latent
space to the weights it was made with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from raekit import shipped
from raekit.errors import UserError

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")

Checkpoints = Mapping[str, Mapping[int, str]]
"""What was published: size to (resolution in pixels to hub id). The first resolution is meant when none is given."""


def published(checkpoints: Checkpoints, size: str, resolution: int | None) -> str:
    """Hub id of a size at a resolution, or at the size's first one.

    Raises:
        ValueError: never published; names the resolutions that were.
    """
    by_resolution = checkpoints[size]
    if resolution is None:
        return next(iter(by_resolution.values()))
    if resolution not in by_resolution:
        known = ", ".join(map(str, sorted(by_resolution)))
        raise ValueError(
            f"resolution: {resolution} px of size {size} was never published, only {known}; "
            "give one of these, and input_size to feed it images of another size"
        )
    return by_resolution[resolution]


def resolve(path: str) -> str:
    """The existing directory that ``path`` means (as given, else inside the package), else ``path`` as a hub id.

    Raises:
        UserError: neither a directory nor of the form ``owner/name``.
    """
    directory = shipped.find(path)
    if directory.is_dir():
        return str(directory)
    if HUB_ID.fullmatch(path):
        return path
    raise UserError(f"encoder.path: no directory {path!r} here or in the package; give one saved by save_pretrained")


def load_config(config_class: Any, source: str, revision: str | None, **changes: Any) -> Any:
    """The transformers config of ``source``, with ``changes`` applied.

    Raises:
        UserError: no config there, or the hub cannot be reached.
    """
    try:
        return config_class.from_pretrained(source, revision=revision, **changes)
    except OSError as error:
        raise UserError(_unreachable(source, error)) from None


def load_model(model_class: Any, source: str, config: Any, revision: str | None, unused: tuple[str, ...]) -> Any:
    """A float32 model with every weight found; keys that start with one of ``unused`` may be left over.

    Raises:
        UserError: missing, wrongly shaped or unknown weights, or the hub cannot be reached.
    """
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                source, config=config, revision=revision, dtype=torch.float32, output_loading_info=True
            )
    except OSError as error:
        raise UserError(_unreachable(source, error)) from None
    unknown = [key for key in info["unexpected_keys"] if not key.startswith(unused)]
    wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"], *unknown]))
    if wrong:
        raise UserError(
            f"encoder.path: the weights of {source!r} do not fit {model_class.__name__} "
            f"({len(wrong)} keys, such as {wrong[0]}); name an encoder of that kind"
        )
    return model


def weights_sha256(module: nn.Module) -> str:
    """Digest of all parameters as float32, independent of their names and order.

    Names are left out because transformers renames modules between releases while the weights stay the same.
    """
    digests = []
    for tensor in module.state_dict().values():
        value = tensor.detach().float().cpu().contiguous()
        digests.append(hashlib.sha256(str(list(value.shape)).encode() + value.numpy().tobytes()).digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own key report and weight progress bar: the keys are checked here."""
    log: Any = logging
    verbosity, has_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if has_bars:
            log.enable_progress_bar()


def _unreachable(source: str, error: OSError) -> str:
    reason = " ".join(str(error).split(". ")[0].split())
    if Path(source).is_dir():
        return f"encoder.path: {source!r} holds no usable checkpoint ({reason}); give one saved by save_pretrained"
    return f"encoder.path: cannot get {source!r} ({reason}); connect to the hub, or give encoder.path a local directory"
