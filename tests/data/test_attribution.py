from __future__ import annotations

from raekit.data.attribution import Credit, write_attribution


def test_every_origin_is_named_with_licence_and_change(tmp_path) -> None:
    credit = Credit("Shapes", "Ada", "https://a.example", "CC-BY-4.0", "https://l.example", "shapes 1.2", "rendered")
    plain = Credit("Lines", "Bob", "", "GPL-2.0", "", "lines 3", "cut")
    text = write_attribution(tmp_path, "Test set", [credit, plain]).read_text()
    assert text.startswith("# Test set")
    assert "| [Shapes](https://a.example) | Ada | [CC-BY-4.0](https://l.example) | shapes 1.2 | rendered |" in text
    assert "| Lines | Bob | GPL-2.0 | lines 3 | cut |" in text
