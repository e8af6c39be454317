"""What an evaluation found: one column a model, as JSON, as a table, and as a page with sheets of pictures.

In: :class:`Column` records. Out: ``report.json``, ``report.html`` and ``sheet_*.png`` in one directory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from raekit.evaluate.figures import Figures, Mean
from raekit.evaluate.page import Page, Row, sheets

ALL = "all pictures"
COST = "cost"

LABELS = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS"}
DIGITS = {"psnr": 2, "ssim": 4, "lpips": 4}

FEW = "*"
"""Marks distances over too few pictures."""


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        decode_images_per_second: measured, over whole batches, metrics and loading left out.
        decode_gflops: counted, per image; see :mod:`raekit.cost`.
        encode_images_per_second: as for decoding; None where nothing was encoded.
        encode_gflops: as for decoding; None where nothing was encoded.
    """

    decode_images_per_second: float
    decode_gflops: float
    encode_images_per_second: float | None = None
    encode_gflops: float | None = None


@dataclass(frozen=True)
class Column:
    """One model's results.

    Attributes:
        name: of the model.
        facts: what identifies it: checksum, sizes.
        overall: over all pictures.
        domains: by domain.
        cost: of encoding and decoding.
    """

    name: str
    facts: dict[str, Any]
    overall: Figures
    domains: dict[str, Figures]
    cost: Cost


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        title: what was evaluated.
        settings: how, the same for all columns.
        columns: one a model.
        notes: sentences that a reader of the figures must know.
        sheets: pictures to look at, by name.
    """

    title: str
    settings: dict[str, Any]
    columns: list[Column]
    notes: list[str]
    sheets: dict[str, Image.Image] = field(default_factory=dict)

    def beside(self, other: Report) -> Report:
        """Both reports' columns in one; settings that differ are kept by column."""
        notes = list(dict.fromkeys([*self.notes, *other.notes]))
        columns, sheets = [*self.columns, *other.columns], {**self.sheets, **other.sheets}
        return replace(self, columns=columns, notes=notes, sheets=sheets)

    def table(self) -> list[tuple[str, list[Row]]]:
        """Groups of rows: all pictures, each domain where there are several, and the cost."""
        domains = list(dict.fromkeys(name for column in self.columns for name in column.domains))
        groups = [(ALL, [column.overall for column in self.columns])]
        if len(domains) > 1:
            groups += [(name, [column.domains[name] for column in self.columns]) for name in domains]
        return [(name, _figure_rows(figures)) for name, figures in groups] + [(COST, _cost_rows(self.columns))]

    def as_json(self) -> dict[str, Any]:
        """Everything but the sheets."""
        content = {"title": self.title, "settings": self.settings, "notes": self.notes}
        return {**content, "models": [asdict(column) for column in self.columns]}

    def save(self, directory: Path) -> list[Path]:
        """Write JSON, page and sheets; returns their paths.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        facts = [*self.settings.items(), *((column.name, column.facts) for column in self.columns)]
        columns, pictures = [column.name for column in self.columns], sheets(self.sheets)
        return Page(self.title, columns, self.table(), self.notes, facts, pictures).save(directory, self.as_json())


def distance_notes(column: Column) -> list[str]:
    """A sentence for each distance over too few pictures, in any domain."""
    found = [figures.distances for figures in (column.overall, *column.domains.values())]
    few = {name: value for distances in found for name, value in distances.items() if value.is_rank_deficient}
    return [
        f"{FEW} {label_of(name)} has {value.width} dimensions, and too few pictures for a covariance of full rank: it "
        "is biased upwards, and comparable only with values over the same number of pictures"
        for name, value in few.items()
    ]


def label_of(name: str) -> str:
    """A figure's name as a reader knows it: ``rfid`` is rFID, ``rfd_nano`` is rFD nano."""
    if name in LABELS:
        return LABELS[name]
    return name.replace("fid", "FID").replace("fd_", "FD ")


def _figure_rows(figures: list[Figures]) -> list[Row]:
    """The rows of one domain; an absent figure is a dash."""
    rows = [("pictures", [str(each.num_images) for each in figures])]
    for name in dict.fromkeys(name for each in figures for name in each.means):
        cells = [_mean(each.means[name], DIGITS[name]) if name in each.means else "-" for each in figures]
        rows.append((label_of(name), cells))
    for name in dict.fromkeys(name for each in figures for name in each.distances):
        found = [each.distances.get(name) for each in figures]
        cells = ["-" if value is None else f"{value.value:.4g}{FEW * value.is_rank_deficient}" for value in found]
        rows.append((label_of(name), cells))
    rows.append(("sharpness, of 1", [f"{each.sharpness:.3f}" for each in figures]))
    if any(each.recall for each in figures):
        recalls = [each.recall for each in figures]
        cells = ["-" if r is None else _mean(Mean(r.value, r.standard_error), 3) for r in recalls]
        rows.append(("words read", cells))
        rows.append(("words read in the originals", ["-" if r is None else f"{r.ceiling:.3f}" for r in recalls]))
    return rows


def _cost_rows(columns: list[Column]) -> list[Row]:
    labels = {
        "encode_images_per_second": "encoding, images/s",
        "decode_images_per_second": "decoding, images/s",
        "encode_gflops": "encoding, GFLOP/image",
        "decode_gflops": "decoding, GFLOP/image",
    }
    rows = []
    for name, label in labels.items():
        values = [getattr(column.cost, name) for column in columns]
        if any(value is not None for value in values):
            rows.append((label, ["-" if value is None else f"{value:.4g}" for value in values]))
    return rows


def _mean(mean: Mean, digits: int) -> str:
    return f"{mean.value:.{digits}f} ± {mean.standard_error:.{digits}f}"
