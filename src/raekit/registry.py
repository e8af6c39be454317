"""Names to classes, resolved lazily.

In: a table ``name -> "module:Class"`` written in each folder's ``__init__``. Out: the class, imported on first use, so
that ``import raekit`` stays fast and an optional dependency is only needed by whoever asks for the part that uses it.
Names are a closed set: a recipe can choose a part but can never import code.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

REGISTRIES: dict[str, Registry] = {}
"""Every registry by its kind ("encoders", "backbones", ...), filled as the folders are imported."""


class UnknownName(ValueError):
    """A name that no registry row has; the message lists the known names and the nearest one."""


class Registry(Mapping[str, Any]):
    """A closed table of one kind of component.

    Args:
        kind: plural name of the folder, e.g. ``"encoders"``.
        rows: ``name -> "module:Class"``; the module is imported when the name is first looked up.
    """

    def __init__(self, kind: str, rows: Mapping[str, str]) -> None:
        self.kind = kind
        self._rows = dict(rows)
        REGISTRIES[kind] = self

    def __getitem__(self, name: str) -> Any:
        if name not in self._rows:
            raise UnknownName(f"{self.kind}: unknown name {name!r}; {nearest_hint(name, self._rows)}")
        module, attribute = self.home(name)
        return getattr(importlib.import_module(module), attribute)

    def home(self, name: str) -> tuple[str, str]:
        """The module of a known name, and what it is called there; nothing is imported."""
        module, _, attribute = self._rows[name].partition(":")
        return module, attribute

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def build(self, config: Any, *args: Any, **runtime: Any) -> Any:
        """The component that ``config.name`` names, constructed as ``Class(config, *args, **runtime)``."""
        return self[config.name](config, *args, **runtime)


def nearest_hint(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """A closing clause for an error: the nearest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
