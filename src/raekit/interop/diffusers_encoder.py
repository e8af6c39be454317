"""The frozen encoder inside a diffusers AutoencoderRAE: out into a directory of its own, and in again.

In: its tensors, whose names depend on the transformers release that wrote them. Out: an encoder directory as the hub
has it, which every release reads; or the tensors of one of our encoders, for diffusers. diffusers builds the encoder
from four numbers and takes everything else from the defaults of transformers, so only encoders with these defaults fit;
the weight and bias of the final norm, which RAE does not use, are not stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from raekit.checkpoint import name_some
from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.errors import UserError
from raekit.files import atomic_directory

EncoderNames = Literal["installed", "hub"]
Renames = tuple[tuple[str, str], ...]

HEAD_WIDTH = 64
"""Of every encoder that diffusers builds: the number of heads follows from the width."""
WRAPPERS = re.compile(r"^(model\.)?(vision_model\.|vit\.)?")
"""What older files have before the names of an encoder."""
FINAL_NORM_UNUSED = "the final norm is used without weight and bias"

QKV = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"))


@dataclass(frozen=True)
class Kind:
    """One of diffusers' encoder types.

    Attributes:
        type: its ``encoder_type``.
        config: transformers class of the settings.
        model: transformers class of the network.
        fixed: settings that diffusers does not store, as the defaults of transformers have them.
        renames: names that newer transformers releases use in memory, to those of the hub's files.
        final_norm: module whose weight and bias are not stored.
        unused: parts of the network that play no role, and why.
    """

    type: str
    config: str
    model: str
    fixed: Mapping[str, Any]
    renames: Renames
    final_norm: str
    unused: Mapping[str, str]


KINDS = {
    "dinov2": Kind(
        "dinov2",
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {
            "image_size": 518,
            "mlp_ratio": 4,
            "num_register_tokens": 4,
            "use_swiglu_ffn": False,
            "qkv_bias": True,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        },
        (
            *((f".attention.{ours}.", f".attention.attention.{theirs}.") for ours, theirs in QKV),
            (".attention.o_proj.", ".attention.output.dense."),
        ),
        "layernorm",
        {},
    ),
    "mae": Kind(
        "mae",
        "ViTMAEConfig",
        "ViTMAEModel",
        {"image_size": 224, "intermediate_size": 3072, "qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
        (
            *((f".attention.{ours}.", f".attention.attention.{theirs}.") for ours, theirs in QKV),
            (".attention.o_proj.", ".attention.output.dense."),
            (".mlp.fc1.", ".intermediate.dense."),
            (".mlp.fc2.", ".output.dense."),
            ("^layers.", "encoder.layer."),
        ),
        "layernorm",
        {},
    ),
    "siglip2": Kind(
        "siglip2",
        "SiglipVisionConfig",
        "SiglipVisionModel",
        {
            "image_size": 256,
            "intermediate_size": 3072,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        (),
        "post_layernorm",
        {"head.": "the pooling head, which no latent comes from"},
    ),
}
"""Type to kind; the types are also the names of our encoders."""


def hub_name(kind: Kind, key: str) -> str:
    """The name that the hub's files have for a weight of the encoder, whichever release named it."""
    name = WRAPPERS.sub("", key)
    for ours, theirs in kind.renames:
        name = re.sub(f"^{re.escape(ours[1:])}" if ours.startswith("^") else re.escape(ours), theirs, name)
    return name


def write_encoder(kind: Kind, tensors: Mapping[str, Tensor], depth: int, directory: Path) -> None:
    """An encoder directory, as ``save_pretrained`` leaves it.

    Args:
        kind: which.
        tensors: by the hub's names, without what is unused and without the final norm.
        depth: number of blocks.
        directory: replaced as a whole, or left as it was.
    """
    patches = next(value for key, value in tensors.items() if re.search(r"patch_embeddings?\.(projection\.)?w", key))
    width, _, patch_size, _ = patches.shape
    settings = {
        **kind.fixed,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": max(width // HEAD_WIDTH, 1),
        "patch_size": patch_size,
    }
    norm = {f"{kind.final_norm}.weight": torch.ones(width), f"{kind.final_norm}.bias": torch.zeros(width)}
    config = getattr(transformers, kind.config)(**settings, architectures=[kind.model])
    with atomic_directory(directory) as folder:
        config.save_pretrained(folder)
        stored = {key: value.contiguous().clone() for key, value in {**norm, **tensors}.items()}
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def kind_of(encoder: RepresentationEncoder) -> Kind:
    """The type that diffusers has for one of our encoders.

    Raises:
        UserError: it has none, or builds that type otherwise.
    """
    settings = encoder.config.model_dump()
    kind = KINDS.get(settings["name"])
    if kind is None or not settings.get("has_registers", True):
        raise UserError(f"convert: diffusers has no encoder like {_named(encoder)}; it knows {', '.join(KINDS)}")
    wanted = {"norm": "affine_free", "layers": None}
    problems = [f"{key} = {settings[key]}, not {value}" for key, value in wanted.items() if settings[key] != value]
    own, heads = encoder.backbone.config, encoder.width // HEAD_WIDTH
    fixed = {**kind.fixed, "num_attention_heads": heads}
    problems += [f"{k} = {getattr(own, k)}, not {v}" for k, v in fixed.items() if getattr(own, k) != v]
    if problems:
        raise UserError(
            f"convert: diffusers builds {kind.type} otherwise than {_named(encoder)}: {'; '.join(problems)}"
        )
    return kind


def encoder_to(kind: Kind, encoder: RepresentationEncoder, names: EncoderNames) -> dict[str, Tensor]:
    """The tensors of an encoder as diffusers' ``encoder.*``, by bare names.

    SigLIP's pooling head, which our encoder does not build, is written as zeros, since diffusers builds it.

    Args:
        kind: of the encoder.
        encoder: what to write.
        names: as the installed transformers names them, or as the hub's files do.
    """
    own = {key: value.detach().cpu().clone() for key, value in encoder.backbone.state_dict().items()}
    if kind.type == "siglip2":
        with torch.device("meta"):
            whole = getattr(transformers, kind.model)(
                getattr(transformers, kind.config)(**_sizes(encoder), **kind.fixed)
            )
        own |= {k: torch.zeros(v.shape) for k, v in whole.state_dict().items() if k.startswith("head.")}
        return {f"vision_model.{key}": value for key, value in own.items()}
    return {hub_name(kind, key): value for key, value in own.items()} if names == "hub" else own


def check_same(stated: RepresentationEncoder, found: RepresentationEncoder, source: str) -> None:
    """Compare the encoder that the options name with the one in a file, weight by weight.

    Raises:
        UserError: they differ; at most three weights are named.
    """
    theirs, own = found.backbone.state_dict(), stated.backbone.state_dict()
    different = [key for key in theirs.keys() | own.keys() if not _equal(theirs.get(key), own.get(key))]
    if different:
        raise UserError(
            f"{source}: its encoder is not the one of --encoder, {_named(stated)}: {len(different)} weights differ "
            f"({name_some(different)}); leave --encoder out to use the one inside"
        )


def stated_settings(kind: Kind, path: Path, input_size: int) -> dict[str, Any]:
    """What a recipe would say of an encoder directory."""
    return {"name": kind.type, "path": str(path), "input_size": input_size}


def _sizes(encoder: RepresentationEncoder) -> dict[str, int]:
    return {
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.width // HEAD_WIDTH,
        "patch_size": encoder.patch_size,
    }


def _named(encoder: RepresentationEncoder) -> str:
    config: EncoderConfig = encoder.config
    return f"{config.model_dump()['name']} {config.path or config.hub_id}"


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)
