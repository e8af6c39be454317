"""How a report lies on disk: its figures as JSON, and a page to read, with its pictures beside it.

In: a table as rows of text, built once and shown alike on a terminal, and what else a reader must know. Out:
``report.json``, ``report.html`` and the pictures in one directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from raekit.files import write_files
from raekit.image_grid import encode_png

JSON_FILE, PAGE_FILE = "report.json", "report.html"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } th { border-bottom: 2px solid; }
tr.group td { border-top: 1px solid; font-weight: bold; padding-top: .7rem; }
img { max-width: 100%; image-rendering: pixelated; } dt { font-weight: bold; }
"""

Row = tuple[str, list[str]]
"""A label and one cell for each column."""


@dataclass(frozen=True)
class Page:
    """A report for a reader.

    Attributes:
        title: what was found out.
        columns: names of the table's.
        groups: rows of the table, under a title each.
        notes: sentences that a reader of the figures must know.
        facts: what was looked at, and how; names need not differ.
        pictures: to look at, with their titles, by the name of their file.
    """

    title: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, list[Row]]]
    notes: Sequence[str]
    facts: Sequence[tuple[str, Any]]
    pictures: Mapping[str, tuple[str, Image.Image]]

    def save(self, directory: Path, figures: Mapping[str, Any]) -> list[Path]:
        """Write the page, its pictures, and ``figures`` as JSON; returns the paths.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        pictures = {file: encode_png(picture) for file, (_, picture) in self.pictures.items()}
        return write_files(directory, {JSON_FILE: in_json(figures), **pictures, PAGE_FILE: self.html().encode()})

    def html(self) -> str:
        """The page, which needs no other file but its pictures."""
        title = escape(self.title)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        pictures = "".join(
            f'<h2>{escape(name)}</h2><img src="{escape(file)}" alt="">' for file, (name, _) in self.pictures.items()
        )
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(shown(value))}</dd>" for name, value in self.facts)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
            f"<h1>{title}</h1>{''.join(self._table())}<ul>{notes}</ul>{pictures}<h2>Settings</h2><dl>{facts}</dl></html>\n"
        )

    def _table(self) -> Iterator[str]:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        yield f"<table><tr><th></th>{head}</tr>"
        for title, rows in self.groups:
            yield f'<tr class="group"><td colspan="{len(self.columns) + 1}">{escape(title)}</td></tr>'
            for label, cells in rows:
                yield "".join(f"<td>{escape(cell)}</td>" for cell in (label, *cells)).join(("<tr>", "</tr>"))
        yield "</table>"


def sheets(titled: Mapping[str, Image.Image]) -> dict[str, tuple[str, Image.Image]]:
    """Pictures by title as a page has them: each in a file of its own, ``sheet_1.png``, ``sheet_2.png``, ..."""
    return {f"sheet_{number}.png": sheet for number, sheet in enumerate(titled.items(), 1)}


def in_json(content: Mapping[str, Any]) -> bytes:
    """Figures as they lie in a file: for programs, and still to be read by people."""
    return (json.dumps(content, indent=1) + "\n").encode()


def shown(value: Any) -> str:
    """A setting as text: mappings as ``key: value`` pairs."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {shown(inner)}" for key, inner in value.items())
    return ", ".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)
