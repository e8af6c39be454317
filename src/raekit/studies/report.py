"""What a study found: a table, a plot, sentences; the paper's numbers are rows of the table and said to be the paper's.

In: groups of rows of text. Out: ``report.json``, ``report.html`` and ``plot.png`` in one directory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from raekit.evaluate.report import JSON_FILE, PAGE_FILE, STYLE, Row
from raekit.files import write_atomically
from raekit.image_grid import encode_png

PLOT_FILE = "plot.png"


@dataclass(frozen=True)
class StudyReport:
    """What was found.

    Attributes:
        title: of the study.
        settings: model, data, sampling.
        columns: of the table.
        groups: rows under a title each.
        figures: the same unrounded, JSON-able.
        notes: sentences that a reader must know.
        plot: of the figures.
    """

    title: str
    settings: dict[str, Any]
    columns: list[str]
    groups: list[tuple[str, list[Row]]]
    figures: dict[str, Any]
    notes: list[str]
    plot: Image.Image

    def save(self, directory: Path) -> list[Path]:
        """Write JSON, page and plot; returns their paths.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        content = {"title": self.title, "settings": self.settings, "notes": self.notes, "figures": self.figures}
        contents = {
            JSON_FILE: (json.dumps(content, indent=1) + "\n").encode(),
            PLOT_FILE: encode_png(self.plot),
            PAGE_FILE: self.page().encode(),
        }
        for name, data in contents.items():
            write_atomically(directory / name, data)
        return [directory / name for name in contents]

    def page(self) -> str:
        """The report as one HTML page beside the plot."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        lines = [f"<table><tr><th></th>{head}</tr>"]
        for title, rows in self.groups:
            lines.append(f'<tr class="group"><td colspan="{len(self.columns) + 1}">{escape(title)}</td></tr>')
            for label, cells in rows:
                lines.append("".join(f"<td>{escape(cell)}</td>" for cell in (label, *cells)).join(("<tr>", "</tr>")))
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        title, facts = escape(self.title), escape(json.dumps(self.settings, indent=1))
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
            f'<h1>{title}</h1>{"".join(lines)}</table><ul>{notes}</ul><img src="{PLOT_FILE}" alt="the table as lines">'
            f"<h2>Settings</h2><pre>{facts}</pre></html>\n"
        )
