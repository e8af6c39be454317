"""Patterns of file names, as the WebDataset world writes them.

In: ``shards/web-{000000..000120}.tar``, ``{train,extra}/*.tar``, or a plain name. Out: the paths, in order. Ranges keep
their leading zeros; ``*``, ``?`` and ``[...]`` match the files that are there.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

from raekit.errors import UserError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand(pattern: Path) -> list[Path]:
    """The paths that a pattern stands for; a range or a list of names gives all its members, there or not.

    Raises:
        UserError: a range runs backwards, or no file matches the wildcards.
    """
    paths: list[Path] = []
    for name in expand_braces(str(pattern)):
        if not glob.has_magic(name) or Path(name).exists():
            paths.append(Path(name))
            continue
        found = sorted(glob.glob(name))
        if not found:
            raise UserError(f"path {pattern}: no file matches {name!r}")
        paths += map(Path, found)
    return paths


def expand_braces(pattern: str) -> list[str]:
    """``a{08..10}b`` to ``a08b``, ``a09b``, ``a10b``; ``{x,y}`` to ``x``, ``y``; several braces multiply."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], expand_braces(pattern[match.end() :])
    return [before + choice + rest for choice in _choices(match[1], pattern) for rest in after]


def _choices(inside: str, pattern: str) -> list[str]:
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(ends[1]), int(ends[2])
    if last < first:
        raise UserError(f"path {pattern}: the range {{{inside}}} runs backwards; write {{{ends[2]}..{ends[1]}}}")
    return [str(number).zfill(len(ends[1])) for number in range(first, last + 1)]
