"""Who made the pictures of a data set: ``ATTRIBUTION.md`` beside its shards.

In: one :class:`Credit` per origin. Out: a table with title, author, licence, link, version, and what was changed, which
is what CC-BY asks for and what the notices of MIT and Apache need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raekit.files import write_atomically


@dataclass(frozen=True)
class Credit:
    """One origin of pictures."""

    title: str
    author: str
    url: str
    licence: str
    licence_url: str
    version: str
    changes: str


def write_attribution(folder: Path, title: str, credits_: Sequence[Credit]) -> Path:
    """Write ``ATTRIBUTION.md``; keep it with the shards wherever they go."""
    lines = [
        f"# {title}: where the pictures come from",
        "",
        "Keep this file with the pictures. Share-alike licences (CC-BY-SA) also bind whoever passes them on.",
        "",
        "| work | author | licence | version | changes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for credit in credits_:
        licence = f"[{credit.licence}]({credit.licence_url})" if credit.licence_url else credit.licence
        work = f"[{credit.title}]({credit.url})" if credit.url else credit.title
        lines.append(f"| {work} | {credit.author} | {licence} | {credit.version} | {credit.changes} |")
    path = folder / "ATTRIBUTION.md"
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return path
