"""``raekit prepare data``, through the command line that typer makes of it."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from raekit.cli.prepare import prepare
from raekit.data.sources import PREPARERS
from raekit.errors import UserError


@pytest.fixture
def run():
    """Runs ``prepare`` with the given words; a :class:`UserError` comes through."""
    app = typer.Typer()
    app.command()(prepare)

    def call(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


def test_a_set_is_written_and_reported(run, tmp_path) -> None:
    settings = ("--set", "num_train=3", "--set", "num_test=2", "--set", "fonts=builtin")
    out = run("data", "rendered-text", "--out", str(tmp_path / "text"), "--size", "32", *settings)
    assert "rendered-text: 2 shards" in out
    assert "train  3 samples" in " ".join(out.split(" ")).replace("   ", "  ").replace("   ", "  ")
    assert (tmp_path / "text" / "train-000000.tar").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("emojis",), "did you mean 'emoji'"),
        (("emoji", "--level", "any"), "level: .*permissive"),
        (("emoji", "--size", "3"), "size: .*16"),
        (("photos", "--level", "all"), "level: unknown key"),
        (("emoji", "--set", "skin_tone=true"), "did you mean 'skin_tones'"),
        (("emoji", "--set", "skin_tones"), "KEY=VALUE"),
    ],
)
def test_mistakes_name_the_field_and_the_fix(run, tmp_path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run("data", *words, "--out", str(tmp_path))


def test_a_place_that_is_a_file_is_refused(run, tmp_path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="--out .*file.*: File exists; name a directory"):
        run("data", "rendered-text", "--out", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", list(PREPARERS))
def test_every_builder_says_what_it_is(name: str) -> None:
    builder = PREPARERS[name]
    assert builder.__doc__
    assert builder.Config.model_fields["name"].default == name
    assert all(field.description for field_name, field in builder.Config.model_fields.items() if field_name != "name")
