"""Verbs whose place is reserved: each says that it is not built yet, what to use meanwhile, and exits with code 2.

In: anything. Out: a :class:`~raekit.errors.UserError`. Their names are taken now so that scripts and documents can rely
on the list of verbs staying as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raekit.errors import UserError


def serve() -> None:
    """Serve a model over HTTP (not built yet)."""
    raise UserError("serve: not built yet; `raekit generate` draws images from the command line")


RESERVED = (serve,)


def settings(verb: Callable[..., Any]) -> dict[str, Any]:
    """Typer's settings for a verb: a reserved one takes any words, so that its own sentence is what the user reads."""
    if verb not in RESERVED:
        return {}
    return {"context_settings": {"allow_extra_args": True, "ignore_unknown_options": True}}
