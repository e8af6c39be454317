"""How two resolved recipes differ, and what may differ when a run is taken up again.

In: recipes as plain mappings. Out: what differs, key by key; and a refusal where the rest of the run would no longer
belong to its beginning. Learning rates, lengths, intervals, places and the number of processes may change; the
optimiser may not, since its moments are loaded, nor what lies at a position of the data stream, since the run goes on
from a position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from raekit.errors import UserError

OPTIMISER = re.compile(r"(.*[._])?optim\.name")
POSITION = re.compile(
    r"seed|data\.mixture\.\d+\.(.+\.)?(name|domain|weight|split|seed|shuffle_buffer|lanes|lane_run|kinds|per_image|plain)"
    r"(\.\d+)?"
)
"""Keys that decide what lies at a position: which samples, in which order and shares. Places may change: data move."""


class Change(NamedTuple):
    """A key of a recipe and what two recipes say of it, :data:`ABSENT` where one says nothing."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} is {self.now!r}, was {self.before!r}"


class _Absent:
    """Stands for what a recipe does not say."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Every key whose value differs, lists and mappings taken apart, in the order of ``now``."""
    old, new = _flat(before), _flat(now)
    keys = dict.fromkeys([*new, *old])
    pairs = ((key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys)
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


def check_resumable(found: list[Change], checkpoint: str) -> None:
    """Refuse changes with which a checkpoint's state means something else.

    Args:
        found: since the checkpoint was written.
        checkpoint: its path, for the sentence.

    Raises:
        UserError: another optimiser or another data stream; the first such key is named.
    """
    for change in found:
        if OPTIMISER.fullmatch(change.key):
            why = "the moments it holds are of the other optimiser"
        elif POSITION.fullmatch(change.key):
            why = "its position in the data stream would mean other samples"
        else:
            continue
        raise UserError(
            f"checkpoint {checkpoint!r}: {change}, and {why}; resume with {change.before!r}, or start another run "
            "with --run DIR"
        )


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """``a.0.b -> value`` of mappings and lists; empty ones are values."""
    if isinstance(value, Mapping) and value:
        parts = value.items()
    elif isinstance(value, list | tuple) and value:
        parts = enumerate(value)  # type: ignore[assignment]
    else:
        return {path: value}
    return {k: v for key, inner in parts for k, v in _flat(inner, f"{path}.{key}".lstrip(".")).items()}
