"""From the published layouts to ours and back, whichever of them a path turns out to hold.

In: a path (published weights, a mirror of a collection, or one of our artefacts) and what the path itself cannot say.
Out: an artefact or published files, and rows that say what became of every key. What a layout is stands in
:mod:`raekit.interop.format`; the layouts are the rows of :data:`raekit.interop.FORMATS`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raekit import generator_files, shipped
from raekit.autoencoder import artefact
from raekit.checkpoint import name_some
from raekit.errors import UserError
from raekit.hub import part
from raekit.interop import FORMATS
from raekit.interop.decoder import CONFIG_FILE
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Rows
from raekit.registry import nearest_hint

GENERATOR = "generator"
"""Folder of the generator in a whole model."""

PREFERRED = {artefact.FORMAT: "rae", generator_files.FORMAT: "dit"}
"""What an artefact of ours is written in when nothing is said."""


def convert(source: Path, target: Path, config: ConvertConfig | None = None) -> Rows:
    """Convert ``source`` to ``target``: into a published layout if it is ours, into ours otherwise.

    Args:
        source: a weight file, a directory of one, a mirror of the RAE collection, or one of our artefacts, here or
            inside the package; of a whole model of ours, its generator.
        target: a directory (for a single network also a ``.safetensors`` file) that does not exist yet.
        config: what is needed besides; each format says what it misses.

    Returns:
        (label, value) rows: what it was, what became of every key, where it went.

    Raises:
        UserError: nothing that can be converted, keys that do not fit, or an option missing, wrong or out of place;
            nothing is then left at ``target``.
    """
    config, source = config or ConvertConfig(), part(shipped.find(source), GENERATOR)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError(f"convert: {str(target)!r} is there already; name another place, or remove it first")
    ours = own_format(source)
    if ours is None:
        found = Source(source)
        name = config.format or detect(found)
        rows = _build(name, config, "READS").read(found, target)
    else:
        name = config.format or PREFERRED[ours]
        if _kind(name).OURS != ours:
            fitting = ", ".join(row for row in FORMATS if FORMATS[row].OURS == ours)
            raise UserError(f"convert: {str(source)!r} is a {ours}, which {name} does not hold; it goes to {fitting}")
        rows = _build(name, config, "WRITES").write(source, target)
    layout = f"{ours}, written as {name}" if ours else name
    return [("from", f"{source} ({layout})"), *rows, ("to", str(target))]


def detect(source: Source) -> str:
    """The format of published weights, by their contents.

    Raises:
        UserError: none is recognised, or there are no weights.
    """
    name = next((name for name, kind in FORMATS.items() if kind.recognises(source)), None)
    if name is None:
        keys = name_some(source.ledger.tensors)
        raise UserError(
            f"convert: {str(source.path)!r} is in none of the known layouts (it holds {keys}); name another file, or "
            f"one of --format {', '.join(FORMATS)}"
        )
    return name


def own_format(source: Path) -> str | None:
    """``format`` of our artefact at ``source``; None if it is not ours.

    Raises:
        UserError: a ``config.json`` that is no JSON.
    """
    path = source / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"convert: {str(path)!r} is not valid JSON ({error}); copy it again") from None
    found = content.get("format") if isinstance(content, dict) else None
    return found if found in PREFERRED else None


def _kind(name: str) -> type[Format]:
    if name not in FORMATS:
        raise UserError(f"convert: --format {name!r} is unknown; {nearest_hint(name, FORMATS)}")
    kind: type[Format] = FORMATS[name]
    return kind


def _build(name: str, config: ConvertConfig, direction: str) -> Format:
    """The format with the options that were stated.

    Raises:
        UserError: one of them means nothing to it in that direction.
    """
    kind = _kind(name)
    taken: frozenset[str] = getattr(kind, direction)
    stated = config.stated
    if strange := [option for option in stated if option not in taken]:
        verb = "reading" if direction == "READS" else "writing"
        options = ", ".join(f"--{option.replace('_', '-')}" for option in sorted(taken)) or "no options"
        raise UserError(
            f"convert: --{strange[0].replace('_', '-')} means nothing when {verb} {name}; it takes {options}"
        )
    return kind(kind.Config(**stated))
