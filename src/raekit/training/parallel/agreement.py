"""The processes of a run agree on what they are about before any of them reads a weight.

In: this process's recipe, and whether it resumes. Out: nothing, or one sentence on every process about what differs: a
machine with an old copy of the recipe or of the package would otherwise train to the end beside the others.
"""

from __future__ import annotations

import hashlib
import json
import socket
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from raekit import distributed
from raekit.config import Config
from raekit.errors import UserError
from raekit.training.saving.changes import changes

SHOWN = 3
"""Most differences that the sentence names."""


def check_agreement(recipe: Config, is_resumed: bool) -> None:
    """All processes call it together.

    Raises:
        UserError: on every process: one of them has another recipe, is resumed where the others are not, or runs
            another version of this package.
    """
    mine = {"recipe": recipe.model_dump(mode="json"), "--resume": is_resumed, "raekit": _version()}
    digest = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()
    if len(set(distributed.gathered(digest))) == 1:
        return
    stated: list[tuple[str, dict[str, Any]]] = distributed.gathered((socket.gethostname(), mine))
    (first_host, first), others = stated[0], stated[1:]
    rank, host, found = next(
        (rank, host, changes(first, other)) for rank, (host, other) in enumerate(others, 1) if other != first
    )
    listed = [f"{change.key.removeprefix('recipe.')} {change.now!r}, not {change.before!r}" for change in found]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    raise UserError(
        f"process {rank} on {host} has {'; '.join(listed[:SHOWN])}{more} as process 0 on {first_host} has; start all "
        "processes with the same recipe, options and version of raekit"
    )


def _version() -> str:
    try:
        return version("raekit")
    except PackageNotFoundError:
        return "not installed"
