"""The pixel decoder of the published systems, in and out, bit for bit.

In: weights of the ViT decoder that RAE, Scale-RAE and RAEv2 share, with layers named as ViT-MAE names them, or as
diffusers does. Out: :class:`ViTDecoder`; and back. Queries, keys and values, apart there, are one matrix here, joined
after reading and split again before writing. The position table is a frozen constant in the papers, but the published
training code lets it learn: it is always the file's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raekit.autoencoder.decoder import LAYER_NORM_EPS, PRESETS, Preset, ViTDecoder
from raekit.checkpoint import load_strict
from raekit.errors import UserError
from raekit.interop.files import select
from raekit.interop.ledger import Ledger

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.pt"
POSITION, CLS_TOKEN = "decoder_pos_embed", "trainable_cls_token"

NOTE = "raekit"
"""Key of ``config.json`` under which our own exports say what its published fields cannot."""
NO_CLS_TOKEN = "zeros, as at initialisation"
NO_POSITION = "the sin-cos table, as its own system computes it"

OUTER = {"decoder_embed": "embed", "decoder_norm": "norm", "decoder_pred": "head"}
LAYER = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""Theirs to ours; attention is apart, since its names differ between the systems."""


class AttentionNames(NamedTuple):
    """How a system names the projections of an attention layer."""

    query: str
    key: str
    value: str
    out: str


VIT_MAE = AttentionNames(
    "attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"
)
"""In the files of RAE, Scale-RAE and RAEv2, and in the first files of diffusers."""
DIFFUSERS = AttentionNames("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")

FIXED = {"hidden_act": "gelu", "layer_norm_eps": LAYER_NORM_EPS, "qkv_bias": True, "num_channels": 3}
"""Settings of ``config.json`` that every released decoder shares; any other value is refused."""


def take_decoder(ledger: Ledger, prefix: str = "", heads: int | None = None, grid: int | None = None) -> ViTDecoder:
    """The decoder among the tensors of a file; its shape is read off the weights.

    Args:
        ledger: of the file; the decoder's keys count as loaded.
        prefix: of the decoder's keys.
        heads: attention heads, the one number that weights do not show; None = those of the preset of that shape.
        grid: tokens along a side, for a layout that need not store the position table; None = it must be there.

    Raises:
        UserError: missing keys (only the class token may be, and with ``grid`` the table), or unknown heads.
    """
    bare = [key.removeprefix(prefix) for key in ledger.tensors if key.startswith(prefix)]
    depth = len({key.split(".")[1] for key in bare if key.startswith("decoder_layers.")}) or 1
    style = DIFFUSERS if any(DIFFUSERS.query in key for key in bare) else VIT_MAE
    names = key_names(depth, style, prefix)
    optional = {prefix + CLS_TOKEN: NO_CLS_TOKEN} | ({} if grid is None else {prefix + POSITION: NO_POSITION})
    tensors = ledger.take([key for theirs in names.values() for key in theirs], optional)
    decoder = _empty_decoder({key.removeprefix(prefix): value for key, value in tensors.items()}, depth, heads, grid)
    own = {
        ours: torch.cat([tensors[key] for key in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
        for ours, theirs in names.items()
        if theirs[0] in tensors
    }
    load_strict(decoder, own, ledger.source, optional=frozenset({"cls_token", "position"} - own.keys()))
    return decoder


def decoder_from(tensors: Mapping[str, Tensor], heads: int | None = None, source: str = "decoder") -> ViTDecoder:
    """A decoder from tensors by their published names (bare, or under ``decoder.`` beside others).

    Raises:
        UserError: keys other than a decoder's (only ``trainable_cls_token`` may be missing), or unknown heads.
    """
    ledger = Ledger(select(tensors, "decoder."), f"weights {source!r}")
    decoder = take_decoder(ledger, heads=heads)
    ledger.check()
    return decoder


def decoder_to(decoder: ViTDecoder, style: AttentionNames = VIT_MAE) -> dict[str, Tensor]:
    """The tensors of a decoder by their published names: the inverse of :func:`decoder_from`."""
    own = decoder.state_dict()
    tensors: dict[str, Tensor] = {}
    for ours, theirs in key_names(len(decoder.blocks), style).items():
        parts = own[ours].chunk(len(theirs)) if len(theirs) > 1 else (own[ours],)
        tensors |= {key: part.detach().cpu().clone() for key, part in zip(theirs, parts, strict=True)}
    return tensors


def export_decoder(decoder: ViTDecoder, directory: Path, **note: Any) -> None:
    """Write ``model.pt`` and ``config.json`` into a directory.

    Args:
        decoder: what to write.
        directory: made if it is not there.
        **note: what the published ``config.json`` has no field for, stored apart under :data:`NOTE`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shape = decoder.config.shape
    settings = {
        **FIXED,
        "decoder_hidden_size": shape.width,
        "decoder_num_hidden_layers": shape.depth,
        "decoder_num_attention_heads": shape.heads,
        "decoder_intermediate_size": shape.mlp_width,
        "hidden_size": decoder.embed.in_features,
        "image_size": decoder.output_size,
        "patch_size": decoder.patch_size,
    } | ({NOTE: note} if note else {})
    torch.save(decoder_to(decoder), directory / WEIGHTS_FILE)
    (directory / CONFIG_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def read_settings(path: Path) -> dict[str, Any]:
    """A ``config.json``; empty if there is none.

    Raises:
        UserError: not JSON, or no object.
    """
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"convert: {str(path)!r} is not valid JSON ({error}); copy it again") from None
    if not isinstance(settings, dict):
        raise UserError(f"convert: {str(path)!r} holds a {type(settings).__name__}; name a directory of weights")
    return settings


def check_settings(settings: Mapping[str, Any], source: str) -> None:
    """Raise UserError if a decoder's ``config.json`` has a value of :data:`FIXED` other than the one supported."""
    for key, value in FIXED.items():
        if settings.get(key, value) != value:
            raise UserError(f"{source}: {key} is {settings[key]!r}, only {value!r} is supported")


def key_names(depth: int, style: AttentionNames, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Our key to theirs; three of theirs are joined along the first axis."""
    names: dict[str, tuple[str, ...]] = {"position": (prefix + POSITION,), "cls_token": (prefix + CLS_TOKEN,)}
    for kind in ("weight", "bias"):
        names |= {f"{ours}.{kind}": (f"{prefix}{theirs}.{kind}",) for theirs, ours in OUTER.items()}
        for i in range(depth):
            layer, block = f"{prefix}decoder_layers.{i}", f"blocks.{i}"
            names |= {f"{block}.{ours}.{kind}": (f"{layer}.{theirs}.{kind}",) for theirs, ours in LAYER.items()}
            names[f"{block}.attention.qkv.{kind}"] = tuple(f"{layer}.{part}.{kind}" for part in style[:3])
            names[f"{block}.attention.proj.{kind}"] = (f"{layer}.{style.out}.{kind}",)
    return names


def _empty_decoder(tensors: Mapping[str, Tensor], depth: int, heads: int | None, grid: int | None) -> ViTDecoder:
    """A decoder of the shape that published tensors (by bare names) have, weights not loaded."""
    width, channels = tensors["decoder_embed.weight"].shape
    mlp_width = tensors["decoder_layers.0.intermediate.dense.weight"].shape[0]
    patch_size = math.isqrt(tensors["decoder_pred.bias"].numel() // 3)
    if POSITION in tensors:
        grid = math.isqrt(tensors[POSITION].shape[1] - 1)
    assert grid is not None, "take_decoder refuses a file without the table unless it is told the grid"
    return ViTDecoder(_config(width, depth, heads, mlp_width, patch_size), channels, grid)


def _config(width: int, depth: int, heads: int | None, mlp_width: int, patch_size: int) -> ViTDecoder.Config:
    """The preset of this shape if there is one, else everything spelt out."""
    if heads is None:
        known = {(p.width, p.depth, p.mlp_width): p.heads for p in PRESETS.values()}
        heads = known.get((width, depth, mlp_width))
    if heads is None:
        raise UserError(f"decoder: {width} wide, {depth} deep is no known size; state its number of --heads")
    shape = Preset(width, depth, heads, mlp_width, patch_size)
    size = next((name for name, preset in PRESETS.items() if preset == shape), None)
    return ViTDecoder.Config.model_validate({"size": size} if size else shape._asdict())
