"""How verbs print: aligned rows of plain text that stay readable in a pipe, a log and a narrow terminal.

In: titles and (label, value) rows. Out: text on standard output. Progress goes to standard error and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from raekit.evaluate.report import Report
    from raekit.evaluate.scene_report import SceneReport
    from raekit.evaluate.understanding_report import UnderstandingReport


def print_rows(title: str, rows: Iterable[tuple[str, object]]) -> None:
    """A bold title and one indented line per row, the values aligned; later lines of a value are indented under it."""
    table = [(label, str(value)) for label, value in rows]
    width = max((len(label) for label, _ in table), default=0)
    typer.secho(title, bold=True)
    for label, value in table:
        first, *others = value.splitlines() or [""]
        typer.echo(f"  {label:<{width}}  {first}".rstrip())
        for line in others:
            typer.echo(f"  {'':<{width}}  {line}".rstrip())


def print_table(names: list[str], groups: list[tuple[str, list[tuple[str, list[str]]]]]) -> None:
    """Groups of labelled rows under a line of column names, every column as wide as it must be."""
    rows = [("", names), *(row for _, group in groups for row in group)]
    label_width = max(len(label) for label, _ in rows)
    widths = [max(len(cells[index]) for _, cells in rows) for index in range(len(names))]

    def line(label: str, cells: list[str]) -> str:
        return "  ".join([f"  {label:<{label_width}}", *(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))])

    typer.echo(line("", names))
    for title, group in groups:
        typer.secho(title, bold=True)
        for label, cells in group:
            typer.echo(line(label, cells))


def show_report(columns: Sequence[str], report: Report | SceneReport | UnderstandingReport, out: Path | None) -> None:
    """A report's table and notes; where ``out`` is given, the first process writes it there and prints the paths.

    Raises:
        UserError: the disk is full or the place is not writable.
    """
    from raekit import distributed

    print_table(list(columns), report.table())
    for note in report.notes:
        typer.echo(note)
    if out is not None and distributed.is_main():
        for path in report.save(out):
            typer.echo(path)


def counted(number: int, noun: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, and the function that moves it to a number of finished things out of ``total``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda num_done: bar.update(task, completed=num_done)
