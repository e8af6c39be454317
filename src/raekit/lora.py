"""LoRA: low-rank adapters beside the weights of a generator, trained, saved, loaded, scaled, merged (Hu et al. 2021).

    y = W x + scale * alpha / rank * B A x

In: a backbone and a conditioner. Out: the same, a pair of thin matrices beside each chosen linear map. The arithmetic
is peft's, and so are the files, ``adapter_config.json`` and ``adapter_model.safetensors``, which hold nothing but the
adapters: megabytes, where a generator takes gigabytes. The file's metadata names the generator they were trained on.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from raekit import config as recipes
from raekit.backbones.base import Backbone
from raekit.checkpoint import load_safetensors
from raekit.conditioning.base import Conditioner
from raekit.conditioning.prompt import PromptConditioner
from raekit.errors import UserError
from raekit.files import atomic_directory

log = logging.getLogger(__name__)

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Of every name in peft's files."""
ADAPTER = "default"
"""What peft calls an adapter unless told otherwise; a part of names in memory, not of those in files."""
TARGETS = {
    "backbone": ("qkv", "proj", "w12", "w3", "fc1", "fc2"),
    "language_model": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
"""Linear maps of each part that are adapted unless a recipe names others: all of attention and feed-forward."""


class LoRAConfig(recipes.Config):
    """Which linear maps are adapted, and how much an adapter can say."""

    rank: int = Field(16, ge=1)
    """Inner width of an adapter."""
    alpha: float = Field(16.0, gt=0)
    """An adapter's output is multiplied by ``alpha / rank``."""
    parts: tuple[Literal["backbone", "language_model"], ...] = Field(("backbone",), min_length=1)
    """What is adapted."""
    targets: tuple[str, ...] | None = None
    """Last names of the linear maps in the blocks, e.g. ``[qkv, proj]``; None = all of attention and feed-forward."""

    @property
    def pattern(self) -> str:
        """A regular expression over full names, as peft takes it."""
        named = ((part, "|".join(map(re.escape, self.targets or TARGETS[part]))) for part in self.parts)
        return "|".join(rf"{part}\.(.*\.)?\d+\.(.*\.)?({names})" for part, names in named)


class Adapter:
    """The adapters of one generator.

    Args:
        module: the adapted parts by name, as :func:`parts_of` gives them; changed in place, and what is not adapted
            takes no gradients any more.
        settings: peft's ``LoraConfig``.

    Attributes:
        module: the parts; of their parameters only the adapters require gradients.

    Raises:
        UserError: no linear map has one of the names.
    """

    def __init__(self, module: nn.ModuleDict, settings: Any) -> None:
        self.module, self.settings = module, settings
        try:
            _peft().inject_adapter_in_model(settings, module, adapter_name=ADAPTER)
        except ValueError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"lora.targets: nothing to adapt ({reason}); name linear maps of the blocks") from None
        for parameter in self.parameters().values():
            parameter.data = parameter.data.float()

    @classmethod
    def fresh(cls, backbone: Backbone, conditioner: Conditioner, config: LoRAConfig) -> Adapter:
        """Adapters that say nothing yet: ``A`` is random, ``B`` zero.

        Raises:
            UserError: peft is missing, there is no language model, or no linear map has one of the names.
        """
        return cls.of(parts_of(backbone, conditioner, config.parts), config)

    @classmethod
    def of(cls, module: nn.ModuleDict, config: LoRAConfig) -> Adapter:
        """The same for parts at hand, on the meta device too.

        Raises:
            UserError: peft is missing, or no linear map has one of the names.
        """
        settings = _peft().LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=config.pattern)
        return cls(module, settings)

    @classmethod
    def load(cls, backbone: Backbone, conditioner: Conditioner, directory: Path, scale: float = 1.0) -> Adapter:
        """Adapters that were saved; ``scale`` multiplies what they say: 0 is the generator without them.

        Raises:
            UserError: no adapters there, or those of another kind of generator.
        """
        about = read_about(directory)
        tensors = load_safetensors(directory / WEIGHTS_FILE)
        parts = adapted_parts(directory)
        if unknown := parts - TARGETS.keys():
            raise UserError(f"lora {str(directory)!r}: adapts {', '.join(sorted(unknown))}, not parts of a generator")
        settings = _peft().LoraConfig(**{k: about[k] for k in ("r", "lora_alpha", "target_modules")})
        adapter = cls(parts_of(backbone, conditioner, sorted(parts)), settings)
        own = adapter.tensors()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in tensors.items()}:
            adapter.remove()
            raise UserError(f"lora {str(directory)!r}: does not fit this generator; load it beside the one it is for")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])
        for layer in adapter._layers():
            layer.set_scale(ADAPTER, scale)
        adapter.module.requires_grad_(False)
        return adapter

    def parameters(self) -> dict[str, nn.Parameter]:
        """The adapters' matrices by their names in ``module``."""
        return {name: p for name, p in self.module.named_parameters() if f".{ADAPTER}." in name}

    def tensors(self) -> dict[str, Tensor]:
        """The same matrices by their names in files; they share memory."""
        return {PREFIX + n.replace(f".{ADAPTER}.", "."): p.data for n, p in self.parameters().items()}

    def save(self, directory: Path, generator: str) -> None:
        """Write the directory, in one step.

        Args:
            directory: replaced as a whole, or left as it was.
            generator: checksum of the generator they belong to.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        about = {**self.settings.to_dict(), "inference_mode": True, "base_model_name_or_path": generator}
        about = {key: sorted(value) if isinstance(value, set) else value for key, value in about.items()}
        stored = {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}
        with atomic_directory(directory) as temporary:
            save_file(stored, temporary / WEIGHTS_FILE, metadata={"format": "pt", "generator": generator})
            (temporary / CONFIG_FILE).write_text(json.dumps(about, indent=1, default=str) + "\n", encoding="utf-8")

    def merge(self) -> None:
        """Add what the adapters say to the weights, for good."""
        for layer in self._layers():
            layer.merge(safe_merge=True)
        self.remove()

    def remove(self) -> None:
        """Put the linear maps back as they are."""
        for name, layer in list(self.module.named_modules()):
            if isinstance(layer, _layer_class()):
                parent, _, own = name.rpartition(".")
                setattr(self.module.get_submodule(parent), own, layer.get_base_layer())

    def _layers(self) -> Iterator[Any]:
        return (layer for layer in self.module.modules() if isinstance(layer, _layer_class()))


def parts_of(backbone: Backbone, conditioner: Conditioner, names: Any) -> nn.ModuleDict:
    """The named parts of a generator, as they are.

    Raises:
        UserError: the language model of a condition that has none.
    """
    parts: dict[str, nn.Module] = {}
    for name in names:
        if name == "backbone":
            parts[name] = backbone
        elif isinstance(conditioner, PromptConditioner):
            parts[name] = conditioner.reader
        else:
            raise UserError("lora.parts: language_model, but this generator reads no prompts; write [backbone]")
    return nn.ModuleDict(parts)


def read_about(directory: Path) -> dict[str, Any]:
    """The settings of saved adapters; beside peft's, ``generator``: the checksum of the one they were trained on.

    Raises:
        UserError: no adapters there.
    """
    try:
        about = dict(json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8")))
        with safe_open(directory / WEIGHTS_FILE, "pt") as file:
            about["generator"] = (file.metadata() or {}).get("generator", "")
    except (OSError, ValueError) as error:
        raise UserError(f"lora {str(directory)!r}: no adapters there ({error}); name the directory of some") from None
    if about.get("peft_type") != "LORA" or not {"r", "lora_alpha", "target_modules"} <= about.keys():
        raise UserError(f"lora {str(directory)!r}: holds adapters of kind {about.get('peft_type')}; only LORA is read")
    return about


def adapted_parts(directory: Path) -> set[str]:
    """What saved adapters adapt: ``backbone``, ``language_model``.

    Raises:
        UserError: no adapters there.
    """
    read_about(directory)
    with safe_open(directory / WEIGHTS_FILE, "pt") as file:
        return {key.removeprefix(PREFIX).split(".")[0] for key in file.keys()}


def describe(directory: Path) -> str:
    """Saved adapters in a line: rank, strength, what is adapted, how large they are and what they belong to."""
    about = read_about(directory)
    tensors = load_safetensors(directory / WEIGHTS_FILE)
    parts = sorted(adapted_parts(directory))
    count = sum(value.numel() for value in tensors.values())
    return (
        f"rank {about['r']}, alpha {about['lora_alpha']:g}, {' and '.join(parts)}, {count:,} parameters, "
        f"for generator {about['generator'][:12] or 'unknown'}"
    )


def find(folder: Path) -> list[Path]:
    """The directories below ``folder``, or it itself, that hold adapters."""
    return sorted(path.parent for path in folder.rglob(CONFIG_FILE))


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError("lora: needs the peft package; pip install 'raekit[lora]'") from None
    return peft


def _layer_class() -> Any:
    _peft()
    from peft.tuners.lora import LoraLayer

    return LoraLayer
