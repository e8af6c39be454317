"""A generator as a recipe states it and as it lies on disk, and the latent space it belongs to.

In: settings and weights. Out: the same, verified. A generator is one directory:

    config.json         format "raekit-generator", version; ``generator``: backbone, condition, transport and sampling
                        defaults; ``latent_space``: path (relative to this directory) and checksum; ``checksum`` of all
    model.safetensors   ``backbone.*`` and ``conditioner.*``, fp32 or bf16

The latent space is an artefact of its own and may serve many generators; a generator refuses any but the one it was
trained in. A frozen language model is named in the settings, not stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raekit import shipped
from raekit.autoencoder import artefact
from raekit.autoencoder.base import Autoencoder, load_autoencoder
from raekit.backbones import BACKBONES
from raekit.checkpoint import load_safetensors, load_strict
from raekit.conditioning import CONDITIONERS
from raekit.config import Config, component
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.hub import local_model, part
from raekit.samplers.settings import Sampling
from raekit.transport.objective import FlowMatching

if TYPE_CHECKING:
    BackboneChoice = Any
    ConditionerChoice = Any
else:
    BackboneChoice = component(BACKBONES)
    ConditionerChoice = component(CONDITIONERS)

FORMAT, VERSION = "raekit-generator", 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
BUNDLED = "models/nano/generator"
"""The generator that ships inside the package."""


class GeneratorConfig(Config):
    """What a generator is made of."""

    backbone: BackboneChoice
    """The transformer."""
    condition: ConditionerChoice
    """What tells the backbone what to draw."""
    transport: FlowMatching.Config = FlowMatching.Config()
    """Prediction, law of the times, shift."""
    sampling: Sampling = Sampling()
    """How the finished generator draws unless told otherwise; also how the sheets of a run are drawn."""


@dataclass(frozen=True)
class GeneratorFiles:
    """What a generator's directory holds.

    Attributes:
        directory: where it lies.
        settings: of the generator, as JSON.
        tensors: weights by ``backbone.*`` and ``conditioner.*``.
        latent_path: directory of the latent space, as it was when the generator was saved.
        latent_checksum: of the latent space the generator was trained in.
        checksum: of everything here, 64 hex digits.
    """

    directory: Path
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    latent_path: Path
    latent_checksum: str
    checksum: str

    def load_latent_space(self) -> Autoencoder:
        """The latent space this generator was trained in, on the CPU.

        Raises:
            UserError: it is not there, damaged, or another one.
        """
        if not self.latent_path.is_dir():
            raise UserError(
                f"model {str(self.directory)!r}: its latent space is not at {str(self.latent_path)!r}; put it there "
                f"(checksum {self.latent_checksum[:12]}), or load it yourself and pass it as latent_space"
            )
        identity = artefact.read_identity(self.latent_path)
        self.check_latent_space(identity.get("checksum", ""), repr(str(self.latent_path)))
        return load_autoencoder(self.latent_path)

    def check_latent_space(self, checksum: str, name: str) -> None:
        """Refuse a latent space other than the one the generator was trained in, naming both."""
        if checksum != self.latent_checksum:
            raise UserError(_mismatch(self.directory, self.latent_checksum, name, checksum))

    def load_into(self, modules: Mapping[str, nn.Module], optional: tuple[str, ...] = ()) -> None:
        """Put the weights into modules of their shapes.

        Args:
            modules: ``backbone`` and ``conditioner``, changed in place.
            optional: starts of the names, such as ``conditioner.head.``, of weights that may be missing here.

        Raises:
            UserError: a weight is missing, one too many, or of another shape.
        """
        for group, module in modules.items():
            may_miss = [name for name in module.state_dict() if f"{group}.{name}".startswith(optional)]
            load_strict(module, self.of(group), self.name_of(group), frozenset(may_miss))

    def of(self, group: str) -> dict[str, Tensor]:
        """The weights of ``backbone`` or ``conditioner``, by the keys of its own state."""
        start = f"{group}."
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}

    def name_of(self, group: str) -> str:
        """What sentences about those weights begin with."""
        return f"model {str(self.directory)!r}, {group}"


def tensors_of(modules: Mapping[str, nn.Module], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights by ``backbone.*`` and ``conditioner.*``, those that are trained in ``dtype``, the others as they are."""
    tensors = {}
    for group, module in modules.items():
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        for name, value in module.state_dict().items():
            tensors[f"{group}.{name}"] = value.to(dtype) if name in trained else value
    return tensors


def write(
    directory: Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    autoencoder: Path,
    latent_checksum: str,
) -> str:
    """Write a generator's directory in one step and return its checksum.

    Args:
        directory: replaced as a whole, or left as it was.
        settings: of the generator, JSON-able.
        tensors: weights by ``backbone.*`` and ``conditioner.*``.
        autoencoder: directory of the latent space, remembered relative to ``directory``.
        latent_checksum: of the latent space the generator was trained in.

    Raises:
        UserError: another latent space or none at ``autoencoder``, the disk is full, or the place is not writable.
    """
    found = artefact.read_identity(autoencoder).get("checksum")
    if found != latent_checksum:
        raise UserError(_mismatch(directory, latent_checksum, repr(str(autoencoder)), found))
    path = os.path.relpath(autoencoder.resolve(), directory.resolve())
    latent_space = {"path": path, "checksum": latent_checksum}
    content = {"format": FORMAT, "version": VERSION, "generator": dict(settings), "latent_space": latent_space}
    stored = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    checksum = artefact.checksum(content, stored)
    with atomic_directory(directory) as temporary:
        save_file(stored, temporary / WEIGHTS_FILE)
        text = json.dumps({**content, "checksum": checksum}, indent=1)
        (temporary / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    return checksum


def read(directory: str | Path | None = None, revision: str | None = None) -> GeneratorFiles:
    """A generator's directory, verified; by default the bundled nano model.

    Args:
        directory: of the generator, or of a whole model that holds it as ``generator/``; or a hub id of either.
        revision: branch, tag or commit of a hub repository.

    Raises:
        UserError: no generator there, a newer version of the format, contents that do not match the checksum, or a hub
            repository that cannot be had.
    """
    path, content = _located(directory, revision)
    checksum = content.pop("checksum", "")
    tensors = load_safetensors(path / WEIGHTS_FILE)
    if artefact.checksum(content, tensors) != checksum:
        raise UserError(f"model {str(path)!r}: contents do not match the checksum; copy or save it again")
    latent_space = content["latent_space"]
    latent_path = (path / latent_space["path"]).resolve()
    settings = _placed(content["generator"], path)
    return GeneratorFiles(path, settings, tensors, latent_path, latent_space["checksum"], checksum)


def read_settings(directory: str | Path) -> tuple[dict[str, Any], Path]:
    """A generator's settings and the directory of its latent space, without its weights; errors as :func:`read`."""
    path, content = _located(directory, None)
    return _placed(content["generator"], path), (path / content["latent_space"]["path"]).resolve()


def _located(directory: str | Path | None, revision: str | None) -> tuple[Path, dict[str, Any]]:
    path = _bundled() if directory is None else _existing(part(local_model(directory, revision), "generator"))
    return path, _read_config(path)


def _placed(settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Settings whose language model may lie beside the generator (``../language_model``): both move together."""
    condition = settings.get("condition", {})
    name = str(condition.get("language_model", ""))
    if not name.startswith("../") or not (directory / name).is_dir():
        return settings
    return {**settings, "condition": {**condition, "language_model": str((directory / name).resolve())}}


def _mismatch(directory: Path, wanted: str, name: str, found: str | None) -> str:
    unsaved = "one that was never saved"
    return (
        f"model {str(directory)!r} belongs to the latent space {wanted[:12] or unsaved}, but {name} is "
        f"{(found or '')[:12] or unsaved}; give the latent space it was trained in"
    )


def _bundled() -> Path:
    path = shipped.PACKAGE / BUNDLED
    if not path.is_dir():
        raise UserError(
            "model: the bundled nano model is not in this installation; make it with "
            "`raekit train recipes/nano/generator.yaml`, or name a generator's directory"
        )
    return path


def _existing(path: Path) -> Path:
    if not (path / CONFIG_FILE).is_file():
        reason = f"holds no {CONFIG_FILE}" if path.is_dir() else "is no directory"
        raise UserError(
            f"model {str(path)!r} {reason}; give a generator's directory (models/nano/generator is the one that ships)"
        )
    return path


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"model {str(path)!r}: {CONFIG_FILE} cannot be read ({error}); copy it again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"model {str(path)!r} is not a generator (format {found!r}); give a generator's directory")
    if content["version"] != VERSION:
        raise UserError(
            f"model {str(path)!r}: version {content['version']}, this raekit reads {VERSION}; update raekit"
        )
    return dict(content)
