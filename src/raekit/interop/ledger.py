"""What became of every key of a source: loaded, or left out for a reason that is said.

In: tensors by their author's names. Out: the ones a converter asks for, and the rows of its report. A key that is
neither loaded nor left out with a reason is an error, so nothing is ever dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from raekit.checkpoint import name_some
from raekit.errors import UserError

Rows = list[tuple[str, str]]
"""(label, value) rows of a report."""


class Ledger:
    """The tensors of a source, and what became of each of its keys.

    Args:
        tensors: by their author's names.
        source: how errors name it, such as ``weights 'model.pt'``.
        left_out: keys that were never read, and why.

    Attributes:
        loaded: keys that a converter took.
        left_out: keys (or groups of them) that it did not, and why.
        absent: keys that may be missing and are, and what stands in for them.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str, left_out: Mapping[str, str] | None = None) -> None:
        self.tensors = dict(tensors)
        self.source = source
        self.loaded: set[str] = set()
        self.left_out = dict(left_out or {})
        self.absent: dict[str, str] = {}

    def take(self, keys: Iterable[str], optional: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        """The tensors of ``keys``, which thereby count as loaded.

        Args:
            keys: all that are needed.
            optional: those among them that may be missing, and what then stands in for them.

        Raises:
            UserError: others are missing; at most three are named.
        """
        keys, optional = list(keys), optional or {}
        missing = [key for key in keys if key not in self.tensors]
        self.absent |= {key: optional[key] for key in missing if key in optional}
        if needed := [key for key in missing if key not in optional]:
            raise UserError(
                f"{self.source}: the keys do not fit: {len(needed)} missing ({name_some(needed)}); "
                "check that it is the right file"
            )
        self.loaded.update(key for key in keys if key in self.tensors)
        return {key: self.tensors[key] for key in keys if key in self.tensors}

    def take_under(self, prefix: str) -> dict[str, Tensor]:
        """All tensors whose key starts with ``prefix``, by the rest of their names; they count as loaded."""
        found = self.take(key for key in self.tensors if key.startswith(prefix))
        return {key.removeprefix(prefix): value for key, value in found.items()}

    def leave_out(self, prefix: str, reason: str) -> None:
        """Say why the keys that start with ``prefix`` and were not taken are not needed."""
        left = [key for key in self.tensors if key.startswith(prefix) and key not in self.loaded]
        self.left_out |= dict.fromkeys(left, reason)

    def check(self) -> None:
        """Account for every key.

        Raises:
            UserError: some were neither taken nor left out; at most three are named.
        """
        unknown = [key for key in self.tensors if key not in self.loaded and key not in self.left_out]
        if unknown:
            raise UserError(
                f"{self.source}: the keys do not fit: {len(unknown)} unexpected ({name_some(unknown)}); "
                "check that it is the right file, or name another --format"
            )

    def rows(self) -> Rows:
        """The report: how many keys were loaded, and every reason for the others.

        Raises:
            UserError: as :meth:`check`.
        """
        self.check()
        rows = [("loaded", f"{len(self.loaded)} of {len(self.tensors)} tensors{self._dtypes()}")]
        rows += [("left out", line) for line in _by_reason(self.left_out)]
        return rows + [("absent", line) for line in _by_reason(self.absent)]

    def _dtypes(self) -> str:
        """What is not float32 is said: it is held as float32 here, which changes no value of a narrower type."""
        others = {self.tensors[key].dtype for key in self.loaded} - {torch.float32}
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
        return f" ({names}, held as float32)" if names else ""


def _by_reason(reasons: Mapping[str, str]) -> list[str]:
    """One line a reason, with the keys that share it."""
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        keys = [key for key, why in reasons.items() if why == reason]
        count = f"{len(keys)} keys, " if len(keys) > 1 else ""
        lines.append(f"{count}{name_some(keys)}: {reason}")
    return lines
