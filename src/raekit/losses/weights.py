"""Weights of the frozen networks that losses look through.

In: a safetensors file, a directory with a ``model.safetensors``, or a hub id (``owner/name``, ``owner/name@revision``,
either with ``/file.safetensors`` behind it). Out: tensors by their published names, or one sentence that says what to
do. PyTorch's own ``.pth`` files are converted once by ``raekit convert``: nothing outside ``interop/`` unpickles.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from raekit.checkpoint import load_safetensors
from raekit.errors import UserError
from raekit.liveness import bounded_elsewhere

FILE = "model.safetensors"
"""The weights in a directory and in a hub repository, unless another file is named."""
HUB = re.compile(r"(?P<repo>\w[\w.-]*/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w./-]+\.safetensors))?")
PICKLED = {".pth", ".pt", ".bin", ".ckpt"}


def frozen_weights(source: str | Path, field: str) -> dict[str, Tensor]:
    """The tensors that ``source`` means, on the CPU.

    Args:
        source: file, directory or hub id.
        field: key of the recipe that holds it, named in errors.

    Raises:
        UserError: nothing there, a file that has to be converted, or a hub that cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / FILE
    if path.suffix in PICKLED:
        raise UserError(
            f"{field}: {str(source)!r} is a PyTorch file; run `raekit convert {source} {Path(source).with_suffix('')}` "
            "once and name the directory that it writes"
        )
    if path.is_file():
        return load_safetensors(path)
    match = HUB.fullmatch(str(source))
    if match is None or (path.suffix == ".safetensors" and match["file"] is None):
        raise UserError(f"{field}: no file {str(path)!r}; name a safetensors file, its directory or a hub id")
    return load_safetensors(Path(_download(match, field)))


def _download(match: re.Match[str], field: str) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    file = match["file"] or FILE
    try:
        with bounded_elsewhere():  # the hub's client gives up on a server that is silent
            return hf_hub_download(match["repo"], file, revision=match["revision"])
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        reason = " ".join(str(error).split(". ")[0].split())
        raise UserError(
            f"{field}: no file or directory {match[0]!r} here, and the hub does not give {file} of {match['repo']} "
            f"({reason}); connect to the hub, or name a local safetensors file"
        ) from None
