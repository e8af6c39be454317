"""Decoders and latent statistics of the published RAE and Scale-RAE, in and out, bit for bit.

In: RAE's ``model.pt`` and ``stat.pt``, or Scale-RAE's decoder directory (``config.json`` and ``model.pt``). Out:
:class:`ViTDecoder`, :class:`LatentStatistics`, or a whole :class:`RAE`; and back. Both systems name the decoder's
layers as ViT-MAE does, with queries, keys and values apart; here they are one matrix, joined after reading and split
again before writing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raekit.autoencoder.decoder import LAYER_NORM_EPS, PRESETS, Preset, ViTDecoder
from raekit.autoencoder.latent import LatentStatistics, to_grid
from raekit.autoencoder.rae import RAE
from raekit.checkpoint import atomic_file, load_strict
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.interop.files import check_keys, read_tensors, select

OPTIONAL = frozenset({"trainable_cls_token"})
"""Keys that a released file may lack: the class token is then zero, as at initialisation."""

WHOLE = {"decoder_pos_embed": "position", "trainable_cls_token": "cls_token"}
OUTER = {"decoder_embed": "embed", "decoder_norm": "norm", "decoder_pred": "head"}
LAYER = {
    "layernorm_before": "norm1",
    "attention.output.dense": "attention.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
QKV = ("query", "key", "value")
"""Theirs to ours; ``attention.attention.{query,key,value}`` are joined into ``attention.qkv`` in this order."""

FIXED = {"hidden_act": "gelu", "layer_norm_eps": LAYER_NORM_EPS, "qkv_bias": True, "num_channels": 3}
"""Settings of ``config.json`` that every released decoder shares; any other value is refused."""


def import_decoder(path: Path, heads: int | None = None) -> ViTDecoder:
    """A published decoder; its shape is read off the weights.

    Args:
        path: ``model.pt``, or a directory with ``config.json`` and ``model.pt``.
        heads: number of attention heads, the one number that weights do not show; by default from ``config.json``
            beside the file, else that of the preset (B, L, XL) of the same shape.

    Raises:
        UserError: keys other than a decoder's (only ``trainable_cls_token`` may be missing), or unknown heads.
    """
    path = Path(path)
    file = path / "model.pt" if path.is_dir() else path
    settings = _read_settings(file.with_name("config.json"))
    return decoder_from(read_tensors(file), heads or settings.get("decoder_num_attention_heads"), str(file))


def decoder_from(tensors: Mapping[str, Tensor], heads: int | None = None, source: str = "decoder") -> ViTDecoder:
    """As :func:`import_decoder`, from tensors by their published names (bare, or under ``decoder.``)."""
    tensors = select(tensors, "decoder.")
    depth = len({key.split(".")[1] for key in tensors if key.startswith("decoder_layers.")}) or 1
    check_keys(tensors, [key for keys in _names(depth).values() for key in keys], f"weights {source!r}", OPTIONAL)
    width, channels = tensors["decoder_embed.weight"].shape
    mlp_width = tensors["decoder_layers.0.intermediate.dense.weight"].shape[0]
    patch_size = math.isqrt(tensors["decoder_pred.bias"].numel() // 3)
    grid = math.isqrt(tensors["decoder_pos_embed"].shape[1] - 1)
    config = _config(width, depth, heads, mlp_width, patch_size)
    decoder = ViTDecoder(config, channels, grid)
    own = {
        ours: torch.cat([tensors[key] for key in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
        for ours, theirs in _names(depth).items()
        if theirs[0] in tensors
    }
    load_strict(decoder, own, f"weights {source!r}", optional=frozenset({"cls_token"}))
    return decoder


def decoder_to(decoder: ViTDecoder) -> dict[str, Tensor]:
    """The tensors of a decoder by their published names: the inverse of :func:`decoder_from`."""
    own = decoder.state_dict()
    tensors: dict[str, Tensor] = {}
    for ours, theirs in _names(len(decoder.blocks)).items():
        parts = own[ours].chunk(len(theirs)) if len(theirs) > 1 else (own[ours],)
        tensors |= {key: part.detach().cpu().clone() for key, part in zip(theirs, parts, strict=True)}
    return tensors


def export_decoder(decoder: ViTDecoder, directory: Path) -> None:
    """Write ``model.pt`` and ``config.json`` (both systems read them)."""
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
    }
    with atomic_file(Path(directory) / "model.pt") as file:
        torch.save(decoder_to(decoder), file)
    with atomic_file(Path(directory) / "config.json") as file:
        file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def import_statistics(path: Path) -> LatentStatistics:
    """Published latent statistics: RAE's ``{"mean", "var"}`` or Scale-RAE's ``{"running_mean", "running_var"}``.

    Either may be absent (0 and 1). Shapes: ``[C,h,w]``, ``[1,C,h,w]``, ``[C,1,1]``, or tokens ``[N,C]``.

    Raises:
        UserError: neither is there, another key, or another shape.
    """
    source = f"statistics {str(path)!r}"
    tensors = {key.removeprefix("running_"): value for key, value in read_tensors(path).items()}
    check_keys(tensors, ("mean", "var"), source, optional=frozenset({"mean", "var"}))
    mean, var = (_as_grid(tensors[key], source) if key in tensors else None for key in ("mean", "var"))
    known = mean if mean is not None else var
    assert known is not None, "read_tensors never returns an empty dictionary"
    return LatentStatistics(
        torch.zeros_like(known) if mean is None else mean, torch.ones_like(known) if var is None else var
    )


def export_statistics(statistics: LatentStatistics, path: Path) -> None:
    """Write ``stat.pt``, the inverse of :func:`import_statistics`."""
    with atomic_file(Path(path)) as file:
        torch.save({"mean": statistics.mean.cpu(), "var": statistics.var.cpu()}, file)


def import_rae(encoder: EncoderConfig, decoder: Path, statistics: Path | None = None, tau: float = 0.8) -> RAE:
    """A published autoencoder: a frozen encoder, its decoder's file, and its statistics' file if it has one."""
    loaded = import_decoder(decoder)
    latents = None if statistics is None else import_statistics(statistics)
    form = "none" if latents is None else latents.form
    config = RAE.Config(encoder=encoder, decoder=loaded.config, statistics=form, tau=tau)
    frozen = ENCODERS.build(encoder)
    if (frozen.width, frozen.grid) != (loaded.embed.in_features, loaded.grid):
        raise UserError(
            f"decoder {str(decoder)!r}: made for {loaded.grid} x {loaded.grid} tokens of {loaded.embed.in_features} "
            f"channels, the encoder gives {frozen.grid} x {frozen.grid} of {frozen.width}; choose its own encoder"
        )
    return RAE(config, encoder=frozen, decoder=loaded, statistics=latents)


def _names(depth: int) -> dict[str, tuple[str, ...]]:
    """Our key to theirs; three of theirs are joined along the first axis."""
    names: dict[str, tuple[str, ...]] = {ours: (theirs,) for theirs, ours in WHOLE.items()}
    for kind in ("weight", "bias"):
        names |= {f"{ours}.{kind}": (f"{theirs}.{kind}",) for theirs, ours in OUTER.items()}
        for i in range(depth):
            layer = f"decoder_layers.{i}"
            names |= {f"blocks.{i}.{ours}.{kind}": (f"{layer}.{theirs}.{kind}",) for theirs, ours in LAYER.items()}
            names[f"blocks.{i}.attention.qkv.{kind}"] = tuple(f"{layer}.attention.attention.{q}.{kind}" for q in QKV)
    return names


def _config(width: int, depth: int, heads: int | None, mlp_width: int, patch_size: int) -> ViTDecoder.Config:
    """The preset of this shape if there is one, else everything spelt out."""
    if heads is None:
        known = {(p.width, p.depth, p.mlp_width): p.heads for p in PRESETS.values()}
        heads = known.get((width, depth, mlp_width))
    if heads is None:
        raise UserError(f"decoder: {width} wide, {depth} deep is no known size; state its number of heads")
    shape = Preset(width, depth, heads, mlp_width, patch_size)
    size = next((name for name, preset in PRESETS.items() if preset == shape), None)
    return ViTDecoder.Config.model_validate({"size": size} if size else shape._asdict())


def _read_settings(path: Path) -> dict[str, Any]:
    """``config.json`` beside the weights, if there is one, checked for what this decoder fixes."""
    if not path.is_file():
        return {}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"decoder config {str(path)!r}: not valid JSON ({error}); download it again") from None
    for key, value in FIXED.items():
        if settings.get(key, value) != value:
            raise UserError(f"decoder config {str(path)!r}: {key} is {settings[key]!r}, only {value!r} is supported")
    return settings


def _as_grid(values: Tensor, source: str) -> Tensor:
    """``[C,h,w]`` of any of the accepted shapes."""
    if values.ndim == 2:
        return to_grid(values.unsqueeze(0)).squeeze(0)
    if values.ndim == 4 and len(values) == 1:
        return values.squeeze(0)
    if values.ndim != 3:
        raise UserError(f"{source}: shape {list(values.shape)}, expected [C,h,w]; check that it is a statistics file")
    return values
