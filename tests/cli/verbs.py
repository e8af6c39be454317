"""One verb in this process: quick, and with the exception as it was raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.testing import CliRunner


def run(verb: Callable[..., Any], *words: object) -> str:
    """Standard output of a verb; what it raises is raised here."""
    app = typer.Typer()
    app.command()(verb)
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.stdout
