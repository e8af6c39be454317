"""``raekit prepare data NAME``: fetch or draw a data set and write it as shards.

In: the name of a builder and its settings. Out: a folder of checksummed WebDataset tars with ``manifest.json`` and
``ATTRIBUTION.md``, and a table of what is in it. Started again, it goes on where it was stopped.
"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from raekit.cli.report import print_rows
from raekit.config import validate
from raekit.data.sources import PREPARERS
from raekit.errors import UserError
from raekit.files import make_writable
from raekit.registry import UnknownName


class What(StrEnum):
    """What can be prepared."""

    DATA = "data"


def prepare(
    what: Annotated[What, typer.Argument(help="What to prepare.")],
    name: Annotated[str, typer.Argument(help=f"Which: {', '.join(PREPARERS)}.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards; made if missing.")],
    level: Annotated[
        str | None, typer.Option("--level", help="Licences admitted: permissive, attribution or all (emoji).")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="Height and width of the pictures in pixels.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of the builder; repeatable."),
    ] = None,
) -> None:
    """Fetch or draw a data set and write it as shards; continues where it was stopped."""
    given: dict[str, Any] = {"level": level, "size": size}
    given = {key: value for key, value in given.items() if value is not None}
    given.update(_read_setting(setting) for setting in settings or [])
    try:
        builder = PREPARERS[name.replace("-", "_")]
    except UnknownName as error:
        raise UserError(f"prepare {what.value}: {error}") from None
    config = validate(builder.Config, given, f"prepare {what.value} {name}")
    make_writable(out, "--out")
    started = time.monotonic()
    manifest = builder(config).build(out)
    rows: list[tuple[str, object]] = [(split, f"{count} samples") for split, count in manifest.splits.items()]
    rows += [(f"dropped ({reason})", count) for reason, count in manifest.dropped.items()]
    rows.append(("time", f"{time.monotonic() - started:.0f} s"))
    print_rows(f"{name}: {len(manifest.shards)} shards in {out}", rows)


def _read_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text!r}: write it as KEY=VALUE")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not valid YAML ({error})") from None
