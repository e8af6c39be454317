"""Recipes: YAML files to typed, frozen pydantic models and back.

In: a YAML recipe with at most one ``base:`` parent, and ``--set a.b=c`` overrides. Out: a validated model, or one
sentence per mistake with the full path of the key and the nearest known name. This file is machinery only: each
component keeps its own ``Config`` beside its class, and a field typed with :func:`component` finds that class through
its registry. Precedence is recipe < ``--set``; no environment variable changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError

from raekit import shipped
from raekit.errors import UserError
from raekit.registry import Registry, UnknownName, nearest_hint


class Config(BaseModel):
    """Base of every component's settings: frozen, no unknown keys, a docstring under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


def component(registry: Registry) -> Any:
    """The type of a recipe field that holds a component of ``registry``, chosen by its ``name`` key.

    ``{name: dinov2, size: base}`` is validated by ``registry["dinov2"].Config``.
    """

    def parse(value: Any) -> Any:
        if isinstance(value, Config):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(f"needs a mapping with a 'name'; known {registry.kind}: {', '.join(sorted(registry))}")
        try:
            return registry[value["name"]].Config.model_validate(dict(value))
        except UnknownName as error:
            raise ValueError(str(error)) from None

    return Annotated[SerializeAsAny[Config], BeforeValidator(parse), _AnyOf(registry)]


def check_row(name: str, registry: Registry) -> str:
    """``name``, if it is a row of ``registry``; nothing is imported.

    Raises:
        ValueError: it is none.
    """
    if name not in list(registry):
        raise ValueError(f"unknown name; {nearest_hint(name, registry)}")
    return name


class _AnyOf:
    """JSON schema of a component: any row of its registry, imported only when a schema is asked for."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        del schema
        return {"anyOf": [handler(self.registry[name].Config.__pydantic_core_schema__) for name in self.registry]}


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe as a plain mapping: its ``base:`` parent merged below it, ``--set`` overrides above it.

    Args:
        path: YAML file, here or one that ships; ``base: other.yaml`` names at most one parent: a file beside this one,
            or else one that ships (``base: recipes/nano/generator.yaml``).
        overrides: ``a.b=value`` strings, one after the other; the value is read as YAML. As with a parent, a component
            whose ``name`` changes loses the settings of the other class.

    Raises:
        UserError: missing file, malformed YAML, a ``base:`` cycle, or an override without ``=``.
    """
    recipe = _read_with_base(shipped.find(path), seen=())
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise UserError(f"--set {override!r}: write it as key.path=value")
        _assign(recipe, key.split("."), _parse_yaml(text, f"--set {key}"), override)
    return recipe


def validate(model: type[Config], values: Mapping[str, Any], source: str) -> Any:
    """``values`` as an instance of ``model``, or a :class:`UserError` with one clause per mistake.

    Args:
        model: the pydantic model of the recipe.
        values: the merged mapping.
        source: file name, named in the error.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_describe(e, model, values) for e in error.errors())) from None


def dump_yaml(config: Config) -> str:
    """The resolved recipe, every default written out, keys in their declared order."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=120)


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path}: base: leads back to itself; remove one of the base: lines")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"recipe {str(path)!r}: no such file; `raekit list recipes` names those that exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {str(path)!r}: cannot be read ({error}); give the path of a YAML file") from None
    recipe = _parse_yaml(text, str(path))
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values; this file holds {type(recipe).__name__}")
    parent = recipe.pop("base", None)
    if parent is None:
        return recipe
    if not isinstance(parent, str):
        raise UserError(f"{path}: base: {parent!r} is no path; name the one recipe that this one changes")
    return merge(_read_with_base(_parent(path, parent), (*seen, path.resolve())), recipe)


def _parent(path: Path, name: str) -> Path:
    """The file beside ``path``, or else the one that ships; where there is neither, the former."""
    beside, ours = path.parent / name, shipped.find(name)
    return ours if ours.exists() and not beside.exists() else beside


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error; YAML itself would keep the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader with unique keys
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``base``, mapping by mapping.

    A component that changes its ``name`` replaces its parent whole: the settings of another class do not carry over.
    """
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        same = isinstance(below, Mapping) and isinstance(value, Mapping) and _same_component(below, value)
        merged[key] = merge(below, value) if same else value  # type: ignore[arg-type]
    return merged


def _same_component(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return "name" not in above or above["name"] == below.get("name")


def _assign(recipe: dict[str, Any], keys: Sequence[str], value: Any, override: str) -> None:
    *parents, last = keys
    node: Any = recipe
    for key in parents:
        node = _child(node, key, override)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    elif isinstance(node, dict):
        if last == "name" and node.get("name", value) != value:
            node.clear()
        node[last] = value
    else:
        raise UserError(f"--set {override!r}: {'.'.join(parents)} holds a value, not a section")


def _child(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, key, override)]
    if not isinstance(node, dict):
        raise UserError(f"--set {override!r}: {key!r} lies inside a value, not a section")
    return node.setdefault(key, {})


def _index(items: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise UserError(f"--set {override!r}: {key!r} is not an index of a list of {len(items)}")
    return int(key)


def _describe(error: Any, model: type[Config], values: Mapping[str, Any]) -> str:
    """One validation error as a clause: full path, value, what is known there."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, values, error["loc"][:-1])
        return f"{path}: unknown key; {nearest_hint(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return f"{path}: missing; add it to the recipe"
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(error["input"], Mapping | list) else f" (got {error['input']!r})"
    return f"{path}: {message}{shown}"


def _known_keys(model: type[Config], values: Any, path: Sequence[str | int]) -> list[str]:
    """Field names of the model that read ``values`` at ``path``; a component's model follows from its name."""
    current, field = model, None
    for part in path:
        values = values[part]
        field = current.model_fields[part] if isinstance(part, str) else field
        if isinstance(values, Mapping) and field is not None:
            current = _model_of(field, values) or current
    return list(current.model_fields)


def _model_of(field: Any, values: Mapping[str, Any]) -> type[Config] | None:
    """The model that reads ``values`` in a field of one, of several, or of none."""
    for option in (field.annotation, *get_args(field.annotation)):
        marks = [*field.metadata, *getattr(option, "__metadata__", ())]
        registry = next((mark.registry for mark in marks if isinstance(mark, _AnyOf)), None)
        if registry is not None:
            found: type[Config] = registry[values["name"]].Config
            return found
        if isinstance(option, type) and issubclass(option, Config):
            return option
    return None
