"""Generators of the published systems, in and out, bit for bit.

In: state dicts of RAE's ``LightningDiT`` and ``DiTwDDTHead``, and of Scale-RAE's diffusion head (``diff_head.*``) in
its three forms. Out: :class:`DiT` or :class:`DiTDH`, together with the one tensor that belongs to the conditioner; and
back. Every key is accounted for, and the shape of the model is read off the weights. Position tables, Fourier vectors
and rotary tables are taken from the checkpoint: the published training code lets them learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raekit.backbones import sizes
from raekit.backbones.base import Shape
from raekit.backbones.dit import DiT
from raekit.backbones.dit_dh import DiTDH
from raekit.checkpoint import load_strict
from raekit.errors import UserError
from raekit.files import atomic_file
from raekit.interop.files import check_keys, select
from raekit.layers.embeddings import time_frequencies
from raekit.layers.feedforward import swiglu_width

SCALE_RAE_PREFIX = "diff_head."
STATISTICS = ("data_mean", "data_std")
"""Latent statistics that a Scale-RAE head may carry beside its model, ``[N, C]``."""

BLOCK = {"attention": "attn", "modulation": "adaLN_modulation.1"}
EVERYWHERE = {
    "time_embed.frequencies": "t_embedder.W",
    "time_embed.hidden": "t_embedder.mlp.0",
    "time_embed.out": "t_embedder.mlp.2",
    "final.norm": "final_layer.norm_final",
    "final.linear": "final_layer.linear",
    "final.modulation": "final_layer.adaLN_modulation.1",
    "position": "pos_embed",
}
ONE_TRUNK = {"embed": "x_embedder", "rope.cos": "feat_rope.freqs_cos", "rope.sin": "feat_rope.freqs_sin"}


def _two(embed: str, head_embed: str, rope: str, head_rope: str) -> dict[str, str]:
    """Names of the parts that occur in trunk and head, or only in a model with a head."""
    ropes = {"rope": rope, "head_rope": head_rope}
    tables = {f"{ours}.{f}": f"{theirs}.freqs_{f}" for ours, theirs in ropes.items() for f in ("cos", "sin")}
    return {"embed": embed, "head_embed": head_embed, "to_head": "s_projector", **tables}


@dataclass(frozen=True)
class Layout:
    """How one published class names its weights, and the settings that its weights do not show.

    Attributes:
        names: our prefix to theirs.
        blocks: their name of the list of blocks.
        condition: their key of the tensor that our conditioner owns.
        settings: fields of the backbone's config.
    """

    names: Mapping[str, str]
    blocks: str
    condition: str
    settings: Mapping[str, Any]

    @property
    def has_head(self) -> bool:
        """Whether this is a :class:`DiTDH`."""
        return "head_embed" in self.names

    @property
    def has_frequencies(self) -> bool:
        """Whether the Fourier vector is stored; Scale-RAE draws it from a seed instead."""
        return self.blocks == "blocks"


LABELS, NULL_TOKEN = "y_embedder.embedding_table.weight", "y_embedder.dropout_embedding"

LAYOUTS = {
    "rae_lightning_dit": Layout(ONE_TRUNK, "blocks", LABELS, {"extra_silu": False}),
    "rae_ddt": Layout(
        _two("s_embedder", "x_embedder", "enc_feat_rope", "dec_feat_rope"),
        "blocks",
        LABELS,
        {"extra_silu": True, "has_time_in_head": True},
    ),
    "scale_rae_dit": Layout(ONE_TRUNK, "dit_blocks", NULL_TOKEN, {"extra_silu": True}),
    "scale_rae_ddt": Layout(
        _two("x_embedder", "s_embedder", "feat_rope", "feat_rope"),
        "dit_blocks",
        NULL_TOKEN,
        {"extra_silu": True, "has_time_in_head": False},
    ),
    "scale_rae_wide_ddt": Layout(
        _two("x_embedder", "s_embedder", "enc_rope", "dec_rope"),
        "dit_blocks",
        NULL_TOKEN,
        {"extra_silu": True, "has_time_in_head": False},
    ),
}
"""The published classes. ``scale_rae_dit`` is the one that was released; the two others serve its ablation."""


@dataclass(frozen=True)
class Generator:
    """A published generator as raekit parts.

    Attributes:
        backbone: the network.
        layout: row of :data:`LAYOUTS`.
        condition: what the conditioner owns, the label table ``[K + 1, Z]`` or the null token ``[Z]``, if it is there.
        statistics: ``data_mean`` and ``data_std``, if the checkpoint has them.
    """

    backbone: DiT | DiTDH
    layout: str
    condition: Tensor | None = None
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


def dit_from(
    tensors: Mapping[str, Tensor], heads: int | None = None, head_depth: int | None = None, source: str = "weights"
) -> Generator:
    """A published generator from tensors by their published names.

    Args:
        tensors: the state dict; that of a whole Scale-RAE model is fine.
        heads: attention heads; only needed by a model without rotary tables.
        head_depth: blocks of the head; only needed by a model whose trunk and head are equally wide.
        source: how error messages call the tensors.

    Raises:
        UserError: no known layout, missing or unexpected keys, or a number above is needed.
    """
    tensors = _bare(tensors)
    name = layout_of(tensors, source)
    layout = LAYOUTS[name]
    statistics = {key: tensors.pop(key) for key in STATISTICS if key in tensors}
    condition = tensors.pop(layout.condition).clone() if layout.condition in tensors else None
    backbone = outline(tensors, heads, head_depth, source)
    own = {key: value for key, value in backbone.named_buffers() if value is not None}
    backbone.to_empty(device="cpu")
    names = _names(backbone, layout)
    may_lack = frozenset(theirs for ours, theirs in names.items() if "rope." in ours)
    check_keys(tensors, names.values(), source, optional=may_lack)
    for ours, theirs in names.items():
        if theirs in tensors:
            own[ours] = tensors[theirs].flatten(1) if ours.endswith("embed.proj.weight") else tensors[theirs]
    if (position := own.get("position")) is not None:
        own["position"] = position.flatten(0, -2)
    load_strict(backbone, own, source)
    return Generator(backbone, name, condition, statistics)


def outline(
    tensors: Mapping[str, Tensor], heads: int | None = None, head_depth: int | None = None, source: str = "weights"
) -> DiT | DiTDH:
    """The backbone whose weights some tensors are, on the meta device; arguments and errors as :func:`dit_from`.

    A released model may be large: no time is spent on initial weights that are overwritten.
    """
    tensors = _bare(tensors)
    with torch.device("meta"):
        return _Shape(tensors, LAYOUTS[layout_of(tensors, source)], source).build(heads, head_depth)


def dit_to(generator: Generator) -> dict[str, Tensor]:
    """The tensors of a generator by their published names: the inverse of :func:`dit_from`.

    Raises:
        UserError: the layout cannot say what the model is.
    """
    backbone, layout = generator.backbone, LAYOUTS[generator.layout]
    _check_fits(backbone, layout, generator.layout)
    own, tensors = backbone.state_dict(), {}
    kernel = (backbone.latent_shape[0], backbone.patch_size, backbone.patch_size)
    for ours, theirs in _names(backbone, layout).items():
        value = own[ours].detach().clone()
        if ours.endswith("embed.proj.weight"):
            value = value.view(-1, *kernel)
        tensors[theirs] = value[None] if ours == "position" else value
    if generator.condition is not None:
        tensors[layout.condition] = generator.condition.detach().clone()
    if layout.blocks == "blocks":
        return tensors
    model = {f"{SCALE_RAE_PREFIX}model.{key}": value for key, value in tensors.items()}
    return model | {f"{SCALE_RAE_PREFIX}{key}": value for key, value in generator.statistics.items()}


def export_dit(generator: Generator, path: Path) -> int:
    """Write ``path`` as the published code reads it, a bare state dict; returns its number of tensors."""
    tensors = {key: value.cpu() for key, value in dit_to(generator).items()}
    with atomic_file(Path(path)) as file:
        torch.save(tensors, file)
    return len(tensors)


def layout_of(tensors: Mapping[str, Tensor], source: str = "weights") -> str:
    """The row of :data:`LAYOUTS` that wrote these (bare) keys.

    Raises:
        UserError: none did.
    """
    starts = {key.split(".")[0] for key in tensors}
    if "blocks" in starts and "t_embedder" in starts:
        return "rae_ddt" if "s_embedder" in starts else "rae_lightning_dit"
    if "dit_blocks" not in starts:
        raise UserError(f"{source}: no generator of RAE or Scale-RAE; it has neither blocks.* nor dit_blocks.*")
    if "s_embedder" not in starts:
        return "scale_rae_dit"
    return "scale_rae_ddt" if "feat_rope" in starts else "scale_rae_wide_ddt"


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the generator alone, with the prefixes of Scale-RAE taken off."""
    return {key.removeprefix("model."): value for key, value in select(tensors, SCALE_RAE_PREFIX).items()}


def _names(backbone: DiT | DiTDH, layout: Layout) -> dict[str, str]:
    """Our key to theirs, for every tensor of ``backbone`` that their files store."""
    prefixes = EVERYWHERE | dict(layout.names)
    keys = backbone.state_dict().keys()
    names = {key: _translate(key, prefixes) for key in keys if "blocks." not in key}
    for key in keys:
        if "blocks." in key:
            part, index, rest = key.split(".", 2)
            number = int(index) + (len(backbone.blocks) if part == "head_blocks" else 0)
            names[key] = f"{layout.blocks}.{number}.{_translate(rest, BLOCK)}"
    if not layout.has_frequencies:
        del names["time_embed.frequencies"]
    return names


def _translate(key: str, prefixes: Mapping[str, str]) -> str:
    """``key`` with its leading part replaced; one that no prefix fits is named alike in both systems."""
    fit = max((p for p in prefixes if key == p or key.startswith(f"{p}.")), key=len, default="")
    return prefixes[fit] + key[len(fit) :] if fit else key


class _Shape:
    """Reads a model's shape off its weights."""

    def __init__(self, tensors: Mapping[str, Tensor], layout: Layout, source: str) -> None:
        self.tensors, self.layout, self.source = tensors, layout, source

    def build(self, heads: int | None, head_depth: int | None) -> DiT | DiTDH:
        """The backbone of this shape, weights not loaded."""
        kernel = self.get(f"{self.layout.names['embed']}.proj.weight")
        width, channels, patch_size, _ = kernel.shape
        cond_width = self.get("t_embedder.mlp.2.weight").shape[0]
        side = self.tokens_along_a_side() * patch_size
        depth = len({key.split(".")[1] for key in self.tensors if key.startswith(f"{self.layout.blocks}.")})
        settings = {**self.layout.settings, **self.block_settings(width), "patch_size": patch_size}
        trunk_heads = self.heads("rope", width, heads)
        if not self.layout.has_head:
            shape = Shape(width, depth, trunk_heads)
            config = DiT.Config(**settings, **_size(shape, sizes.DIT))
            return DiT(config, (channels, side, side), cond_width)
        head_width = self.get(f"{self.layout.names['head_embed']}.proj.weight").shape[0]
        head_depth = self.head_depth(width, head_width, depth, head_depth)
        head_heads = self.heads("head_rope", head_width, heads)
        wide = sizes.WideShape(width, depth - head_depth, trunk_heads, head_width, head_depth, head_heads)
        wide_config = DiTDH.Config(**settings, **_size(wide, sizes.DIT_DH))
        return DiTDH(wide_config, (channels, side, side), cond_width)

    def get(self, key: str) -> Tensor:
        """One tensor, or a sentence that names it."""
        if key not in self.tensors:
            raise UserError(f"{self.source}: {key} is missing; check that it is the right file")
        return self.tensors[key]

    def tokens_along_a_side(self) -> int:
        """Tokens along a side of the (square) grid."""
        table = next((v for k, v in self.tensors.items() if k == "pos_embed" or k.endswith("freqs_cos")), None)
        if table is None:
            raise UserError(f"{self.source}: it has no position table, so its grid is unknown; it cannot be imported")
        return math.isqrt(table.shape[-2])

    def heads(self, rope: str, width: int, given: int | None) -> int:
        """Attention heads of blocks ``width`` wide, from their rotary table."""
        table = self.tensors.get(self.layout.names[f"{rope}.cos"])
        if table is not None:
            return width // int(table.shape[1])
        if given is None:
            raise UserError(f"{self.source}: it has no rotary tables, so its number of heads is unknown; give heads")
        return given

    def head_depth(self, width: int, head_width: int, depth: int, given: int | None) -> int:
        """Number of blocks of the head: those of its width."""
        if width == head_width:
            if given is None:
                raise UserError(f"{self.source}: trunk and head are {width} wide both; give head_depth")
            return given
        widths = [self.get(f"{self.layout.blocks}.{i}.attn.proj.bias").shape[0] for i in range(depth)]
        return widths.count(head_width)

    def block_settings(self, width: int) -> dict[str, Any]:
        """Fields of the config that the keys of the first block show."""
        first = f"{self.layout.blocks}.0"
        is_swiglu = f"{first}.mlp.w12.weight" in self.tensors
        hidden = self.get(f"{first}.mlp.{'w3' if is_swiglu else 'fc2'}.weight").shape[1]
        qk_norm = {"bias": "layer", "weight": "rms"}
        return {
            "mlp": "swiglu" if is_swiglu else "gelu",
            "mlp_ratio": _swiglu_ratio(width, hidden) if is_swiglu else hidden / width,
            "norm": "rms" if f"{first}.norm1.weight" in self.tensors else "layer",
            "qk_norm": next((k for p, k in qk_norm.items() if f"{first}.attn.q_norm.{p}" in self.tensors), None),
            "has_position_table": "pos_embed" in self.tensors,
        }


def _swiglu_ratio(width: int, hidden: int) -> float:
    """The ratio that gives this SwiGLU its hidden width; a whole number where one does."""
    inner = math.ceil(1.5 * hidden)
    ratios = [k / width for k in range(inner, inner + 3) if swiglu_width(width, k / width) == hidden]
    return next((ratio for ratio in ratios if ratio.is_integer()), ratios[0])


def _size(shape: Shape | sizes.WideShape, presets: Mapping[str, Any]) -> dict[str, Any]:
    """The preset of this shape by name, or the shape spelled out."""
    name = next((name for name, preset in presets.items() if preset == shape), None)
    return {"size": name} if name else shape._asdict()


def _check_fits(backbone: DiT | DiTDH, layout: Layout, name: str) -> None:
    """Raise UserError if reading the export would give another model."""
    if layout.has_head != isinstance(backbone, DiTDH):
        raise UserError(
            f"layout: {name} does not hold a {type(backbone).__name__}; use another of {', '.join(LAYOUTS)}"
        )
    if backbone.early is not None:
        raise UserError(f"layout: {name} has no early head, this model has one; no published code could read it")
    for key, value in layout.settings.items():
        if getattr(backbone.config, key) != value:
            raise UserError(f"layout: {name} has {key} = {value}, this model {getattr(backbone.config, key)}")
    if name == "scale_rae_ddt" and isinstance(backbone, DiTDH) and not _is_even(backbone.config.shape):
        raise UserError(f"layout: {name} has one width for trunk and head; use scale_rae_wide_ddt")
    if not layout.has_frequencies and not torch.equal(backbone.time_embed.frequencies.cpu(), time_frequencies()):
        raise UserError(f"layout: {name} does not store the time frequencies, and this model's are not the seeded ones")


def _is_even(shape: sizes.WideShape) -> bool:
    return (shape.width, shape.heads) == (shape.head_width, shape.head_heads)
