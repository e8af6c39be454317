"""``raekit study NAME``: a finding of the papers, re-run at small scale.

In: a row of the registry of studies; its settings are the options. Out: a table on standard output; in the directory
``report.json``, ``report.html``, ``plot.png``, and all that was drawn and measured, from which the next run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from raekit.cli.options import options_of
from raekit.cli.report import print_table
from raekit.errors import UserError

if TYPE_CHECKING:
    from raekit.studies.base import Progress


class Studies(TyperGroup):
    """One command for each study; a study is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        from raekit.studies import STUDIES

        return list(STUDIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from raekit.studies import STUDIES

        if cmd_name not in STUDIES:
            raise UserError(f"study {cmd_name!r}: no such study; known: {', '.join(STUDIES)}")
        return command_of(cmd_name)


study = typer.Typer(cls=Studies, no_args_is_help=True, help="Re-run a finding of the papers at small scale.")


@study.callback()
def _options() -> None:
    """Re-run a finding of the papers at small scale."""


def command_of(name: str) -> Any:
    """The command of a study."""
    from raekit.cli.list import describe
    from raekit.studies import STUDIES

    app = typer.Typer(add_completion=False)
    app.command(name, help=describe(STUDIES, name))(verb_of(name))
    return typer.main.get_command(app)


def verb_of(name: str) -> Any:
    """What a study does, as a function whose parameters are its settings."""
    from raekit.studies import STUDIES

    kind, folder = STUDIES[name], Path("runs/studies") / name

    @options_of(kind.Config, default=False)
    def run(
        out: Annotated[Path, typer.Option(help="Directory of the study; a second run goes on there.")] = folder,
        **options: Any,
    ) -> None:
        from raekit.config import validate
        from raekit.files import make_writable

        make_writable(out, "--out")
        given = {key: value for key, value in options.items() if value is not None}
        built = kind(validate(kind.Config, given, f"study {name}"))
        with progress() as told:
            report = built.run(out, told)
        print_table(report.columns, report.groups)
        for note in report.notes:
            typer.echo(note)
        for path in report.save(out):
            typer.echo(path)

    return run


@contextmanager
def progress() -> Iterator[Progress]:
    """What is being done, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
