"""What a study found: a table, a plot, sentences; the paper's numbers are rows of the table and said to be the paper's.

In: groups of rows of text. Out: ``report.json``, ``report.html`` and ``plot.png`` in one directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from raekit.evaluate.page import Page, Row

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
        pictures, facts = {PLOT_FILE: ("The table as lines", self.plot)}, list(self.settings.items())
        return Page(self.title, self.columns, self.groups, self.notes, facts, pictures).save(directory, content)
