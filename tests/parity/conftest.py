"""``pytest tests/parity --fixtures DIR``: the same tests over any directory of golden vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from parity.case import read_manifest

DEFAULT = Path(__file__).with_name("fixtures")
DIRECTORY = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Give ``--fixtures`` a value: alone it is pytest's own flag, which lists test fixtures and stops."""
    if (directory := value_of("--fixtures", config.invocation_params.args)) is not None:
        config.option.showfixtures = False
        config.args.remove(directory)
        config.stash[DIRECTORY] = Path(directory)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case of the manifest."""
    if "entry" in metafunc.fixturenames:
        entries = read_manifest(metafunc.config.stash.get(DIRECTORY, DEFAULT))
        metafunc.parametrize("entry", entries.values(), ids=list(entries))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Path:
    """The directory of golden vectors."""
    return request.config.stash.get(DIRECTORY, DEFAULT)


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The argument after ``option``, unless it is an option itself."""
    if option not in arguments:
        return None
    rest = arguments[arguments.index(option) + 1 :]
    return rest[0] if rest and not rest[0].startswith("-") else None
