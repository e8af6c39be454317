"""Command-line options out of a component's settings, so that names, ranges and help are written once.

In: a :class:`~raekit.config.Config` class. Out: a verb with one option per field, its help the field's docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from raekit.config import Config

Verb = TypeVar("Verb", bound=Callable[..., Any])


def options_of(
    settings: type[Config], default: str | bool = "the model's own", **flags: str | tuple[str, ...]
) -> Callable[[Verb], Verb]:
    """A decorator that gives a verb an option for each field of ``settings`` but a component's ``name``.

    The verb receives them as ``**keywords``; an option that was not typed is None, whatever the field's default.

    Args:
        settings: whose fields become options.
        default: what the help calls an option that was not typed; False = the field's own default.
        **flags: the option's name, or names, where it is not ``--`` and the field's name.
    """

    def extend(verb: Verb) -> Verb:
        signature = inspect.signature(verb, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        added = []
        for name, field in settings.model_fields.items():
            if name == "name":  # which component it is was chosen before its settings are
                continue
            flag = flags.get(name, "--" + name.replace("_", "-"))
            told = _help(field) if default is False else field.description
            names = flag if isinstance(flag, tuple) else (flag,)
            option = typer.Option(*names, help=told, show_default=default)
            annotation = Annotated[field.annotation | None, option]  # type: ignore[name-defined]
            added.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
        verb.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return verb

    return extend


def _help(field: FieldInfo) -> str:
    """A field's docstring, and its default where there is one to tell and the docstring does not."""
    said = " ".join((field.description or "").split())
    if field.default in (None, "", PydanticUndefined) or isinstance(field.default, bool) or "(default" in said:
        return said
    sentence = said if said.endswith("...") else said.removesuffix(".")
    return f"{sentence} (default: {field.default})."
