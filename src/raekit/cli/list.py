"""``raekit list``: every part a recipe can name, and the recipes at hand.

In: a kind (``encoders``, ``samplers``, ``recipes`` ...) or nothing. Out: one line per name, the first line of its own
documentation; of one kind also each part's variants, where it has a ``variants()`` (the sizes of a backbone and their
parameter counts). All lines come from the registries, so a new part appears here without a change.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import raekit
from raekit import shipped
from raekit.cli.report import print_rows
from raekit.errors import UserError
from raekit.registry import REGISTRIES, Registry, nearest_hint

RECIPES = "recipes"


def list_parts(
    kind: Annotated[str | None, typer.Argument(help="One kind only, e.g. encoders, samplers or recipes.")] = None,
) -> None:
    """List the parts a recipe can name, and the recipes at hand."""
    registries = load_registries()
    if kind is not None and kind not in [*registries, RECIPES]:
        raise UserError(f"list: unknown kind {kind!r}; {nearest_hint(kind, [*registries, RECIPES])}")
    for name, registry in registries.items():
        if kind in (None, name):
            print_rows(name, [(row, describe(registry, row, has_variants=kind == name)) for row in registry])
    if kind in (None, RECIPES):
        print_rows(RECIPES, [(str(path), headline(path)) for path in find_recipes()])


def load_registries() -> dict[str, Registry]:
    """Every registry by its kind, in the order of the package's folders; the parts themselves are not imported."""
    for module in pkgutil.walk_packages(raekit.__path__, "raekit."):
        if module.ispkg:
            importlib.import_module(module.name)
    return dict(sorted(REGISTRIES.items()))


def describe(registry: Registry, name: str, has_variants: bool = False) -> str:
    """The first line of a part's documentation, or the missing optional dependency that keeps it from loading.

    With ``has_variants`` a line follows for each variant of a part that knows some. The line is read from the source
    where it stands there: importing every part, torch and transformers with them, would take ten seconds.
    """
    line = written_line(*registry.home(name))
    if line and not has_variants:
        return line
    try:
        part = registry[name]
    except ImportError as error:
        return f"(cannot be loaded here: {error})"
    line = line or first_line(inspect.getdoc(part))
    variants = list(part.variants()) if has_variants and hasattr(part, "variants") else []
    width = max((len(variant) for variant, _ in variants), default=0)
    return "\n".join([line, *(f"  {variant:<{width}}  {text}" for variant, text in variants)])


def written_line(module: str, attribute: str) -> str:
    """The first line of the docstring that a class or function has in its module's source, or nothing."""
    return documented(module).get(attribute, "")


@lru_cache
def documented(module: str) -> dict[str, str]:
    """Classes and functions of a module by name, with the first line of their docstring; the module is not imported."""
    try:
        spec = find_spec(module)
    except ValueError:  # a module that was made at run time has none
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        return {}
    body = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8")).body
    parts = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {part.name: first_line(ast.get_docstring(part)) for part in parts}


def first_line(documentation: str | None) -> str:
    """As a terminal shows it."""
    return (documentation or "").partition("\n")[0].replace("``", "`")


def find_recipes() -> list[Path]:
    """The YAML files below ``recipes/`` in the current directory, or else those that ship, by the names they go by."""
    folder = shipped.find(RECIPES)
    root = Path() if folder == Path(RECIPES) else shipped.PACKAGE
    return [path.relative_to(root) for path in sorted(folder.rglob("*.yaml"))]


def headline(recipe: Path) -> str:
    """The first comment of a recipe, which says what it is for."""
    with shipped.find(recipe).open(encoding="utf-8") as file:
        first = file.readline().strip()
    return first.lstrip("# ") if first.startswith("#") else ""
