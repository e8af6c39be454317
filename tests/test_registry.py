"""Registries: lazy import, closed sets, and errors that name the nearest name."""

from __future__ import annotations

import json
import sys

import pytest

from raekit.registry import REGISTRIES, Registry, UnknownName, nearest_hint


@pytest.fixture
def registry():
    """A registry of two standard-library classes, forgotten again afterwards."""
    made = Registry("toys", {"decoder": "json:JSONDecoder", "imaginary": "no_such_module_anywhere:Thing"})
    yield made
    del REGISTRIES["toys"]


def test_a_registry_is_known_by_its_kind(registry) -> None:
    assert REGISTRIES["toys"] is registry
    assert list(registry) == ["decoder", "imaginary"]
    assert len(registry) == 2
    assert "decoder" in registry


def test_home_of_a_row_is_told_without_importing_it(registry) -> None:
    assert registry.home("imaginary") == ("no_such_module_anywhere", "Thing")


def test_lookup_gives_the_class(registry) -> None:
    assert registry["decoder"] is json.JSONDecoder


def test_a_row_is_imported_only_when_asked_for(registry) -> None:
    """``imaginary`` names a module that does not exist; making and listing the registry does not notice."""
    assert "no_such_module_anywhere" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        registry["imaginary"]


def test_unknown_name_tells_the_nearest(registry) -> None:
    with pytest.raises(UnknownName, match=r"toys: unknown name 'decodr'; did you mean 'decoder'\?"):
        registry["decodr"]


def test_unknown_name_far_from_all_tells_all(registry) -> None:
    with pytest.raises(UnknownName, match="known: decoder, imaginary"):
        registry["zzz"]


class Callable:
    """Stands for a config: ``functools.partial`` keeps its arguments, so that they can be looked at."""

    name = "partial"

    def __call__(self) -> None: ...


def test_build_passes_config_and_runtime_objects() -> None:
    registry = Registry("built", {"partial": "functools:partial"})
    del REGISTRIES["built"]
    config = Callable()
    built = registry.build(config, 2, key=3)
    assert (built.func, built.args, built.keywords) == (config, (2,), {"key": 3})


def test_hint_takes_lists_too() -> None:
    assert nearest_hint("sampler", ["samplers", "encoders"]) == "did you mean 'samplers'?"
    assert nearest_hint("zzz", ["b", "a"]) == "known: a, b"
