"""DiT-DH as diffusers has it: ``RAEDiT2DModel``, the transformer of its pipeline for RAE (pull request 13231).

In: ``config.json`` and tensors by that class's names. Out: a published generator (:mod:`raekit.interop.dit`); and
back, bit for bit. It is RAE's own layout but for the inside of a block: queries, keys and values are apart, and the two
halves of the gated layer are in the other order. It holds no single trunk, no early head and no condition but classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raekit.backbones.dit_dh import DiTDH
from raekit.errors import UserError
from raekit.interop.dit import Generator, dit_from, dit_to
from raekit.interop.ledger import Ledger

CLASS_NAME = "RAEDiT2DModel"
LAYOUT = "rae_ddt"

RENAMED = {
    "attn.proj": "attn.to_out.0",
    "mlp.w12": "mlp.net.0.proj",
    "mlp.w3": "mlp.net.2",
    "mlp.fc1": "mlp.net.0.proj",
    "mlp.fc2": "mlp.net.2",
}
"""Part of a key in RAE's layout to that of diffusers."""
JOINED, SPLIT = "attn.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")
GATED = "mlp.w12"
"""Its halves, gate and value, stand in the other order."""

SHARED = {"wo_shift": False, "use_rope": True}
"""Settings of ``config.json`` with one supported value."""


def transformer_to(published: Generator, dropout: float) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``config.json`` and tensors of a published generator.

    Args:
        published: with a label table whose last row is the null condition.
        dropout: probability that its labels were dropped in training; with 0 the layout has no null row.

    Raises:
        UserError: the layout cannot say what the model is.
    """
    backbone, table = published.backbone, published.condition
    if not isinstance(backbone, DiTDH) or table is None:
        raise UserError(f"convert: {CLASS_NAME} holds class-conditional dit_dh models only")
    config, (_, height, width) = backbone.config, backbone.latent_shape
    if height != width or not config.has_rope or config.qk_norm not in (None, config.norm):
        raise UserError(
            f"convert: {CLASS_NAME} holds square latents, rotary positions, and one kind of norm; this model has "
            f"{height} x {width}, has_rope {config.has_rope}, norm {config.norm}, qk_norm {config.qk_norm}"
        )
    theirs = dit_to(Generator(backbone, LAYOUT, table if dropout else table[:-1]))
    tensors: dict[str, Tensor] = {}
    for key, value in theirs.items():
        part = next((part for part in (JOINED, *RENAMED) if f".{part}." in key), None)
        if part == JOINED:
            tensors |= {key.replace(JOINED, name): third for name, third in zip(SPLIT, value.chunk(3), strict=True)}
        elif part is not None:
            tensors[key.replace(part, RENAMED[part])] = _swapped(value) if part == GATED else value
        else:
            tensors[key] = value
    return _settings(backbone, len(table) - 1, dropout), {key: value.contiguous() for key, value in tensors.items()}


def transformer_from(ledger: Ledger, settings: Mapping[str, Any]) -> Generator:
    """The inverse of :func:`transformer_to`; a table without a null row gets one of zeros.

    Args:
        ledger: of the weight file; every key has to be the transformer's.
        settings: its ``config.json``.

    Raises:
        UserError: keys that do not fit, or a config that disagrees with them.
    """
    for key, known in SHARED.items():
        if settings.get(key, known) != known:
            raise UserError(f"{ledger.source}: {key} is {settings[key]!r}, only {known!r} is supported")
    first = ("mlp.w12", "mlp.w3") if settings.get("use_swiglu", True) else ("mlp.fc1", "mlp.fc2")
    names = {RENAMED[part]: part for part in ("attn.proj", *first)}
    tensors: dict[str, Tensor] = {}
    for key, value in ledger.take_under("").items():
        part = next((part for part in (*SPLIT, *names) if f".{part}." in key), None)
        if part in SPLIT:
            thirds = ledger.take(key.replace(part, name) for name in SPLIT).values()
            tensors[key.replace(part, JOINED)] = torch.cat(list(thirds))
        elif part is not None:
            tensors[key.replace(part, names[part])] = _swapped(value) if names[part] == GATED else value
        else:
            tensors[key] = value
    published = dit_from(tensors, source=ledger.source)
    _check(published, settings, ledger.source)
    assert published.condition is not None
    if settings.get("class_dropout_prob", 0.1) > 0:
        return published
    null = torch.zeros_like(published.condition[:1])
    return Generator(published.backbone, published.layout, torch.cat((published.condition, null)))


def _settings(backbone: DiTDH, num_classes: int, dropout: float) -> dict[str, Any]:
    """``config.json`` of a transformer."""
    config, shape = backbone.config, backbone.config.shape
    return {
        "_class_name": CLASS_NAME,
        "sample_size": backbone.latent_shape[1],
        "patch_size": config.patch_size,
        "in_channels": backbone.latent_shape[0],
        "hidden_size": [shape.width, shape.head_width],
        "depth": [shape.depth, shape.head_depth],
        "num_heads": [shape.heads, shape.head_heads],
        "mlp_ratio": config.mlp_ratio,
        "class_dropout_prob": dropout,
        "num_classes": num_classes,
        "use_qknorm": config.qk_norm is not None,
        "use_swiglu": config.mlp == "swiglu",
        "use_rmsnorm": config.norm == "rms",
        "use_pos_embed": config.has_position_table,
        **SHARED,
    }


def _check(published: Generator, settings: Mapping[str, Any], source: str) -> None:
    """Raise UserError if the config says something else than the weights."""
    if published.layout != LAYOUT or published.condition is None or not isinstance(published.backbone, DiTDH):
        raise UserError(f"{source}: no {CLASS_NAME}; it has no wide head, or no table of labels")
    dropout = settings.get("class_dropout_prob", 0.1)
    found = _settings(published.backbone, len(published.condition) - (dropout > 0), dropout)
    for key, value in found.items():
        # The ratio follows from the widths of the layers, and several give the same.
        if key != "mlp_ratio" and settings.get(key, value) != value:
            raise UserError(f"{source}: {key} is {settings[key]} in config.json, {value} in the weights; copy both")


def _swapped(value: Tensor) -> Tensor:
    """The two halves of the rows in the other order."""
    first, second = value.chunk(2)
    return torch.cat((second, first))
