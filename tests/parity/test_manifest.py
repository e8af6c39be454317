"""Every case of the manifest: raekit computes what the published systems computed.

A case that no ``cases_*.py`` knows fails, and so does a missing file. Cases of parts that are still to come are named
in ``PENDING`` and shown as skipped.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from parity.case import Case, Compute, read_case

PENDING: dict[str, str] = {}
"""Case (pattern) to the part that brings it."""

MODULES = [importlib.import_module(f"parity.{path.stem}") for path in sorted(Path(__file__).parent.glob("cases_*.py"))]


def test_case(entry: Mapping[str, Any], golden: Path) -> None:
    name = entry["case"]
    functions = functions_of(name, MODULES)
    if reason := pending(name):
        assert not functions, f"{name} has a function now: take it off PENDING"
        pytest.skip(f"pending: {reason}")
    assert functions, f"{name}: unknown case; add it to a cases_*.py"
    case = read_case(golden, entry)
    computed = {key: value.detach() for function in functions for key, value in function(case).items()}
    problems = breaches(case, computed, not_covered(name, MODULES))
    assert not problems, "\n".join(problems)


def breaches(case: Case, computed: Mapping[str, Tensor], excused: Mapping[str, str]) -> list[str]:
    """What differs from the stored outputs; empty when all is well."""
    expected = case.outputs
    silent = expected.keys() - computed.keys() - excused.keys()
    found = [f"{key}: stored, but neither computed nor in NOT_COVERED" for key in sorted(silent)]
    found += [f"{key}: computed, but not stored" for key in computed.keys() - expected.keys()]
    found += [f"{key}: in NOT_COVERED, but computed" for key in excused.keys() & computed.keys()]
    found += [f"{key}: in NOT_COVERED, but not stored" for key in excused.keys() - expected.keys()]
    for key in expected.keys() & computed.keys():
        found += differs(key, computed[key], expected[key], case.tolerance(key))
    return found


def differs(key: str, computed: Tensor, expected: Tensor, tolerance: float) -> list[str]:
    if computed.shape != expected.shape:
        return [f"{key}: shape {list(computed.shape)}, expected {list(expected.shape)}"]
    worst = (computed.double() - expected.double()).abs().max().item()
    return [] if worst <= tolerance else [f"{key}: differs by {worst:.3g}, tolerance {tolerance:.3g}"]


def pending(name: str) -> str | None:
    return next((reason for pattern, reason in PENDING.items() if fnmatch(name, pattern)), None)


def functions_of(name: str, modules: list[ModuleType]) -> list[Compute]:
    return [module.CASES[name] for module in modules if name in module.CASES]


def not_covered(name: str, modules: list[ModuleType]) -> dict[str, str]:
    tables = [getattr(module, "NOT_COVERED", {}).get(name, {}) for module in modules]
    return {key: reason for table in tables for key, reason in table.items()}


class TestTheHarness:
    """The comparison itself must be able to fail."""

    case = Case("x", {"measured_tolerance": {"a": 1e-3}}, {"out/a": torch.zeros(2), "out/b": torch.zeros(1)})

    def test_equal_is_fine(self) -> None:
        assert breaches(self.case, {"a": torch.full((2,), 9e-3), "b": torch.full((1,), 9e-6)}, {}) == []

    @pytest.mark.parametrize(
        ("computed", "excused", "complaint"),
        [
            ({"a": torch.zeros(2)}, {}, "b: stored"),
            ({"a": torch.zeros(2), "b": torch.full((1,), 2e-5)}, {}, "b: differs by 2e-05"),
            ({"a": torch.full((2,), 2e-2)}, {"b": "why"}, "a: differs"),
            ({"a": torch.full((2,), torch.nan)}, {"b": "why"}, "a: differs"),
            ({"a": torch.zeros(1)}, {"b": "why"}, "a: shape"),
            ({"a": torch.zeros(2), "b": torch.zeros(1)}, {"b": "why"}, "b: in NOT_COVERED, but computed"),
            ({"a": torch.zeros(2), "b": torch.zeros(1), "c": torch.zeros(1)}, {}, "c: computed"),
        ],
    )
    def test_complains(self, computed: dict[str, Tensor], excused: dict[str, str], complaint: str) -> None:
        (found,) = breaches(self.case, computed, excused)
        assert found.startswith(complaint)

    def test_a_missing_file_fails(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_case(tmp_path, {"case": "x", "file": "x.safetensors"})
