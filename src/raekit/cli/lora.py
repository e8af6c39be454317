"""``raekit lora``: adapters as files: what there is, and how one becomes part of a generator.

``list`` prints one line for each directory of adapters below a folder. ``merge`` adds adapters to a generator's weights
and writes a generator of its own, which needs neither peft nor the adapters. Training makes adapters (``lora:`` in a
recipe of stage 2), ``raekit generate --lora`` draws with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raekit.cli.report import print_rows
from raekit.errors import UserError

HELP = (
    "List low-rank adapters, or merge some into a generator. They are trained by a recipe with lora: "
    "(`raekit train recipes/nano/finetune_lora.yaml`), drawn with by `raekit generate --lora`, stored as peft does."
)

lora = typer.Typer(no_args_is_help=True, help=HELP)


@lora.command("list")
def list_adapters(
    folder: Annotated[Path, typer.Argument(help="Where to look, with everything below it.")] = Path("."),
) -> None:
    """List the adapters below a folder."""
    from raekit.lora import describe, find

    found = find(folder)
    if not found:
        raise UserError(f"lora list: no adapters below {str(folder)!r}; name a folder that holds some")
    print_rows("adapters", [(str(path), describe(path)) for path in found])


@lora.command("merge")
def merge_adapters(
    model: Annotated[str, typer.Argument(help="A generator: directory or hub id.")],
    adapter: Annotated[Path, typer.Argument(help="Directory of the adapters.")],
    out: Annotated[Path, typer.Argument(help="Directory of the generator to write.")],
    scale: Annotated[float, typer.Option(help="What the adapters say is multiplied by this.")] = 1.0,
) -> None:
    """Add adapters to a generator's weights and write the result."""
    from raekit.interop.lora import merge_lora

    if out.exists():
        raise UserError(f"lora merge: {str(out)!r} is there already; name another place, or remove it first")
    checksum = merge_lora(model, adapter, out, scale)
    print_rows("merged", [("generator", str(out)), ("checksum", checksum[:12])])
