"""``raekit VERB``: the table of verbs, and what becomes of mistakes.

In: ``sys.argv``. Out: an exit code. 0 is success; 1 is work that is done but for inputs that could not be read, which
are listed; 2 is a mistake the user can mend, told in one sentence (a :class:`~raekit.errors.UserError`, an unknown
option, a full disk); 75 is a training process that hung (``docs/faults.md``); 130 is Ctrl-C. Every other exception is a
bug of ours and keeps its traceback.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import raekit
from raekit import shipped
from raekit.cli import later
from raekit.cli.bench import bench
from raekit.cli.convert import convert
from raekit.cli.doctor import doctor
from raekit.cli.evaluate import evaluate
from raekit.cli.explain import explain
from raekit.cli.generate import generate
from raekit.cli.list import list_parts
from raekit.cli.lora import lora
from raekit.cli.prepare import prepare
from raekit.cli.processes import check_alone
from raekit.cli.reconstruct import reconstruct
from raekit.cli.study import study
from raekit.cli.train import train
from raekit.cli.understand import understand
from raekit.errors import UserError
from raekit.files import DISK_FULL

AS_EVER = warnings.formatwarning

LOOK, MAKE, USE = "Look around", "Make a model", "Use a model"

VERBS: tuple[tuple[str, Callable[..., Any] | typer.Typer, str], ...] = (
    ("list", list_parts, LOOK),
    ("explain", explain, LOOK),
    ("doctor", doctor, LOOK),
    ("prepare", prepare, MAKE),
    ("train", train, MAKE),
    ("reconstruct", reconstruct, USE),
    ("generate", generate, USE),
    ("understand", understand, USE),
    ("evaluate", evaluate, USE),
    ("convert", convert, MAKE),
    ("lora", lora, MAKE),
    ("bench", bench, LOOK),
    ("study", study, LOOK),
    ("serve", later.serve, USE),
)
"""Each verb, the function (or the words) behind it, and the heading it stands under in ``raekit --help``."""

FOR_ONE_PROCESS = ("prepare", "reconstruct", "understand", "convert", "lora", "study")
"""Verbs that several processes would do over again, and write over one another's files."""

app = typer.Typer(
    name="raekit",
    help="Train and run image generators in the latent space of Representation Autoencoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"raekit {raekit.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options that stand before the verb."""
    if context.invoked_subcommand in FOR_ONE_PROCESS:
        check_alone(context.invoked_subcommand)


for _name, _function, _heading in VERBS:
    if isinstance(_function, typer.Typer):
        app.add_typer(_function, name=_name, rich_help_panel=_heading)
    else:
        app.command(_name, rich_help_panel=_heading, **later.settings(_function))(_function)


def main() -> None:
    """Run the verb that ``sys.argv`` names and leave with its exit code."""
    warnings.formatwarning = in_one_line
    try:
        app()
    except UserError as error:
        _leave(str(error))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f" while writing {error.filename!r}" if error.filename else ""
        _leave(f"the disk is full{where}; free some space, or name another place for the output")
    except KeyboardInterrupt:
        sys.exit(130)


def in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of ours as its sentence alone; one of somebody else's with its place, as ever."""
    if Path(filename).is_relative_to(shipped.PACKAGE):
        return f"warning: {message}\n"
    return AS_EVER(message, category, filename, lineno, line)


def _leave(sentence: str) -> NoReturn:
    typer.secho("error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
    typer.echo(sentence, err=True)
    sys.exit(2)
