"""Reports: the same table on the terminal and on the page, and what is escaped."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from raekit.evaluate.figures import Figures, Mean
from raekit.evaluate.report import ALL, COST, Column, Cost, Report, distance_notes, label_of
from raekit.metrics.frechet import Distance
from raekit.metrics.ocr import Recall


def column(name: str, psnr: float, with_text: bool = False) -> Column:
    recall = Recall(0.5, 0.125, 0.75, 8, 4) if with_text else None
    figures = Figures(4, {"psnr": Mean(psnr, 0.5)}, {"rfid": Distance(3.14159, 2048, 4, True)}, 0.9, recall)
    domains = {"photos": figures, "<text>": figures}
    return Column(name, {"checksum": "abc"}, figures, domains, Cost(10, 1.5, 20, 2.5))


def report(*columns: Column) -> Report:
    notes = list(dict.fromkeys(note for each in columns for note in distance_notes(each)))
    return Report("Reconstruction", {"reader": None, "data": {"a": 4}}, list(columns), notes)


def test_models_stand_side_by_side() -> None:
    table = dict(report(column("one", 20)).beside(report(column("two", 30, True))).table())
    assert list(table) == [ALL, "photos", "<text>", COST]
    rows = dict(table[ALL])
    assert rows["PSNR, dB"] == ["20.00 ± 0.50", "30.00 ± 0.50"]
    assert rows["rFID"] == ["3.142*", "3.142*"]
    assert rows["words read"] == ["-", "0.500 ± 0.125"]
    assert rows["words read in the originals"] == ["-", "0.750"]
    assert dict(table[COST])["encoding, images/s"] == ["20", "20"]


def test_one_domain_is_not_shown_twice() -> None:
    whole = column("one", 20)
    alone = Column("one", {}, whole.overall, {"photos": whole.overall}, Cost(10, 1.5))
    table = dict(report(alone).table())
    assert list(table) == [ALL, COST]
    assert [label for label, _ in table[COST]] == ["decoding, images/s", "decoding, GFLOP/image"]


def test_too_few_pictures_are_said_once() -> None:
    (note,) = report(column("one", 20), column("two", 20)).notes
    assert note.startswith("* rFID has 2048 dimensions")


def test_names_of_figures() -> None:
    assert [label_of(name) for name in ("ssim", "fid", "rfid", "fd_dinov2", "rfd_nano")] == [
        "SSIM", "FID", "rFID", "FD dinov2", "rFD nano",
    ]  # fmt: skip


def test_files(tmp_path: Path) -> None:
    whole = report(column("<one>", 20))
    whole.sheets["<one>: sheet"] = Image.new("RGB", (4, 4))
    paths = whole.save(tmp_path / "out")
    assert {path.name for path in paths} == {"report.json", "report.html", "sheet_1.png"}
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["models"][0]["overall"]["means"]["psnr"]["value"] == 20
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<img src="sheet_1.png"' in page and "&lt;one&gt;: sheet" in page and "<one>" not in page
    assert "<td>20.00 ± 0.50</td>" in page and "&lt;text&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
