"""The files of a report: the same figures for programs and for readers, and nothing that a browser would run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from raekit.errors import UserError
from raekit.evaluate.page import Page, in_json, sheets, shown


def page(**changed: object) -> Page:
    parts = {
        "title": "a < b",
        "columns": ["<one>", "two"],
        "groups": [("all & every", [("psnr", ["1.0 ± 0.5", "-"])]), ("cost", [])],
        "notes": ["<script>"],
        "facts": [("model", {"checksum": "<abc>"}), ("model", None)],
        "pictures": sheets({"first <sheet>": Image.new("RGB", (3, 4))}),
    }
    return Page(**{**parts, **changed})  # type: ignore[arg-type]


def test_a_directory_with_figures_pictures_and_a_page(tmp_path: Path) -> None:
    paths = page().save(tmp_path / "out", {"psnr": 1.0})
    assert [path.name for path in paths] == ["report.json", "sheet_1.png", "report.html"]
    assert all(path.parent == tmp_path / "out" and path.is_file() for path in paths)
    assert json.loads(paths[0].read_bytes()) == {"psnr": 1.0} and paths[0].read_bytes() == in_json({"psnr": 1.0})
    with Image.open(paths[1]) as picture:
        assert picture.size == (3, 4)
    assert paths[2].read_text(encoding="utf-8") == page().html()


def test_the_page_says_everything_and_escapes_it() -> None:
    html = page().html()
    assert "<title>a &lt; b</title>" in html and "<th>&lt;one&gt;</th><th>two</th>" in html
    assert (
        '<td colspan="3">all &amp; every</td>' in html and "<tr><td>psnr</td><td>1.0 ± 0.5</td><td>-</td></tr>" in html
    )
    assert "<li>&lt;script&gt;</li>" in html
    assert '<h2>first &lt;sheet&gt;</h2><img src="sheet_1.png"' in html
    assert html.count("<dt>model</dt>") == 2 and "<dd>checksum: &lt;abc&gt;</dd>" in html
    assert html.endswith("</html>\n") and "http" not in html


def test_settings_are_shown_as_words() -> None:
    assert shown({"a": 4, "b": [1, {"c": None}]}) == "a: 4; b: 1, c: None"


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="out"):
        page().save(tmp_path / "out", {})
