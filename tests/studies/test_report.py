"""A study's report on disk."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from raekit.studies.report import StudyReport


def test_three_files_that_say_the_same(tmp_path: Path) -> None:
    groups = [("ours <b>", [("a & b", ["0.5", "-"])])]
    report = StudyReport(
        "Best of N", {"seed": 3}, ["N = 1", "N = 4"], groups, {"share": 0.5}, ["a note"], Image.new("RGB", (3, 4))
    )
    paths = report.save(tmp_path)
    assert [path.name for path in paths] == ["report.json", "plot.png", "report.html"]
    assert json.loads(paths[0].read_text()) == {
        "title": "Best of N", "settings": {"seed": 3}, "notes": ["a note"], "figures": {"share": 0.5},
    }  # fmt: skip
    page = paths[2].read_text()
    assert "ours &lt;b&gt;" in page and "<td>a &amp; b</td><td>0.5</td><td>-</td>" in page and 'src="plot.png"' in page
    with Image.open(paths[1]) as plot:
        assert plot.size == (3, 4)
