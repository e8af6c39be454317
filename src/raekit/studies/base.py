"""What a study is: settings, a directory, a report.

In: settings as the command line gives them. Out: :class:`~raekit.studies.report.StudyReport`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from raekit import config as recipes
from raekit.errors import UserError
from raekit.studies.report import StudyReport

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """Nobody is told: the progress of a study that is run without any."""


class Study(ABC):
    """A finding to be re-run; the first line of its documentation is what `raekit study` shows.

    Args:
        config: the settings.

    Raises:
        UserError: settings that cannot be used.
    """

    Config: type[recipes.Config]

    @abstractmethod
    def __init__(self, config: recipes.Config) -> None: ...

    @abstractmethod
    def run(self, directory: Path, progress: Progress | None = None) -> StudyReport:
        """Do what is not done yet, and report.

        Args:
            directory: where everything is kept; a second run with the same settings goes on from there.
            progress: see :data:`Progress`.

        Raises:
            UserError: the directory holds another run's work.
        """


def numbers(text: str, field: str) -> list[int]:
    """``"1,4,8"`` as whole numbers from 1, sorted, each once.

    Raises:
        UserError: none, or something else.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UserError(f"{field}: {text!r} are no whole numbers from 1; write them as in 1,4,8")
    return found
