"""What a file holds that cannot be used, told in one sentence: the first few by name, the others by number.

In: why each line, sample or conversation is of no use, in sentences that name it. Out: one sentence, as a warning, or
as an error where nothing else is there. A run writes all of them down in its ``quarantine.jsonl``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from raekit.errors import UserError

_log = logging.getLogger(__name__)

NAMED = 3
"""What a sentence names; the others are only counted."""


def sentence(what: str, reasons: Sequence[str]) -> str:
    """``5 lines left out: line 2: is not JSON; line 3: ...; line 7: ..., ...``.

    Args:
        what: they are, in the plural.
        reasons: at least one.
    """
    more = ", ..." if len(reasons) > NAMED else ""
    return f"{len(reasons)} {what} left out: {'; '.join(reasons[:NAMED])}{more}"


def report(path: Path, what: str, reasons: Sequence[str], num_kept: int, lacking: str) -> None:
    """Say in the log what was left out of a file, if anything.

    Args:
        path: of the file.
        what: was left out, in the plural.
        reasons: of each, in any number.
        num_kept: how much else is there.
        lacking: what a file is without anything else: "names no picture".

    Raises:
        UserError: nothing was kept.
    """
    told = sentence(what, reasons) if reasons else "it is empty"
    if not num_kept:
        raise UserError(f"path {path}: {lacking}; {told}")
    if reasons:
        _log.warning("%s: %s", path, told)
