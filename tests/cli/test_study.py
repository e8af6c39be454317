"""``raekit study``: every row of the registry is a command, and its settings are the options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from raekit import studies
from raekit.cli.study import command_of, study
from raekit.config import Config
from raekit.errors import UserError
from raekit.studies import STUDIES
from raekit.studies.base import Progress, Study
from raekit.studies.report import StudyReport


class Counting(Study):
    """Counts to a number."""

    class Config(Config):
        """How far."""

        upto: int = 3
        """The last number."""

    def __init__(self, config: Any) -> None:
        if config.upto < 1:
            raise UserError("upto: 0 is no number to count to")
        self.config = config

    def run(self, directory: Path, progress: Progress | None = None) -> StudyReport:
        assert progress is not None
        progress("counting", 1, self.config.upto)
        rows = [("all", [str(self.config.upto)])]
        return StudyReport("Counting", {}, ["number"], [("ours", rows)], {}, ["a note"], Image.new("RGB", (2, 2)))


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES._rows, "counting", f"{__name__}:Counting")
    monkeypatch.setattr(type(STUDIES), "__getitem__", lambda self, name: Counting)


def run(*words: object) -> str:
    done = CliRunner().invoke(study, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_every_study_is_a_command() -> None:
    listed = run("--help")
    assert all(name in listed for name in studies.STUDIES)
    for name, kind in studies.STUDIES.items():
        options = {parameter.name for parameter in command_of(name).params}
        assert options >= {"out", *kind.Config.model_fields} - {"name"} and "name" not in options


def test_settings_become_options_and_the_report_is_written(counting: None, tmp_path: Path) -> None:
    text = run("counting", "--upto", 5, "--out", tmp_path)
    files = [str(tmp_path / name) for name in ("report.json", "plot.png", "report.html")]
    assert text.splitlines()[-6:] == ["ours", "  all       5", "a note", *files]
    with pytest.raises(UserError, match="upto: 0 is no number"):
        run("counting", "--upto", 0, "--out", tmp_path)


def test_an_unknown_study_is_named() -> None:
    with pytest.raises(UserError, match=f"study 'ttx': no such study; known: {', '.join(studies.STUDIES)}"):
        run("ttx")
