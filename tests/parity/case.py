"""Golden vectors: what a parity case is, and how a directory of them is read.

In: a directory of ``MANIFEST.json`` and one safetensors file a case, each holding ``weights/*``, ``in/*`` and ``out/*``
of a published system run on tiny random modules. Out: :class:`Case` records. ``cases_*.py`` beside this file map a
case's name to a function that computes its outputs with raekit:

    CASES: dict[str, Callable[[Case], dict[str, Tensor]]]   outputs by name, without ``out/``
    NOT_COVERED: dict[str, dict[str, str]]                  case -> output -> why raekit does not compute it (optional)

Several files may share a case; its outputs are then joined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

MANIFEST = "MANIFEST.json"

TOLERANCE_FACTOR, TOLERANCE_FLOOR = 10.0, 1e-5
"""The manifest's advice: ten times the measured float32 error, at least 1e-5 absolute."""


@dataclass(frozen=True)
class Case:
    """One case of the manifest with its tensors.

    Attributes:
        name: e.g. ``rae_01_vit_decoder``.
        entry: its record in the manifest.
        tensors: all of the file by their full names.
    """

    name: str
    entry: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        """Sizes and settings of the official module."""
        return dict(self.entry["config"])

    @property
    def inputs(self) -> dict[str, Tensor]:
        """``in/*``."""
        return self.group("in/")

    @property
    def outputs(self) -> dict[str, Tensor]:
        """``out/*``."""
        return self.group("out/")

    @property
    def weights(self) -> dict[str, Tensor]:
        """``weights/*`` by the official state-dict keys."""
        return self.group("weights/")

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def tolerance(self, output: str) -> float:
        """Largest absolute difference allowed for an output.

        The manifest gives a number for the case, one for each output, or one under ``all``; an output that it does not
        name is held to the floor.
        """
        measured = self.entry["measured_tolerance"]
        if isinstance(measured, Mapping):
            measured = measured.get(output, measured.get("all", 0.0))
        return max(TOLERANCE_FACTOR * float(measured), TOLERANCE_FLOOR)


Compute = Callable[[Case], dict[str, Tensor]]


def read_manifest(directory: Path) -> dict[str, dict[str, Any]]:
    """The manifest's records by case name."""
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    return {entry["case"]: entry for entry in manifest["cases"]}


def read_case(directory: Path, entry: Mapping[str, Any]) -> Case:
    """A case with its tensors; where it shares the model of another case, also with that one's weights and settings.

    Raises:
        FileNotFoundError: its file is not in the directory.
    """
    tensors = load_file(directory / entry["file"])
    if shared := entry.get("config", {}).get("weights_file"):
        owner = next(other for other in read_manifest(directory).values() if other["file"] == shared)
        entry = {**entry, "config": {**owner["config"], **entry["config"]}}
        others = load_file(directory / shared)
        tensors |= {key: value for key, value in others.items() if key.startswith(("weights/", "hf/"))}
    return Case(entry["case"], entry, tensors)
