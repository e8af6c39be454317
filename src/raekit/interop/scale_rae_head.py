"""What draws in a Scale-RAE checkpoint: the diffusion head, the queries and the connector that tell it what to draw.

In: tensors by their published names and the published ``config.json``. Out: our backbone, and the state of our query
conditioner. Shapes are read off the weights, and a config that disagrees with them is an error. The checkpoint does not
hold the Fourier vector of the time embedding: ours is drawn from the same seed (Scale-RAE memo, sections 0 and 1.3),
and is compared with a stored one where some file has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raekit.errors import UserError
from raekit.interop.decoder import CONFIG_FILE
from raekit.interop.dit import SCALE_RAE_PREFIX, Generator, dit_from
from raekit.interop.ledger import Ledger
from raekit.layers.embeddings import TIME_SEED, time_frequencies

QUERIES, CONNECTOR = "model.latent_queries", "diff_head_projector"
POSITION = "model.pos_embed"
"""Below the head's prefix, as is the next; RAE's layout may go without, this one never does."""
FREQUENCIES = "model.t_embedder.W"
"""The released checkpoints do not have it."""
FREQUENCY_TOLERANCE = 1e-5
"""Largest difference of the Fourier vector from the seeded one: its last bits depend on the processor."""


def take_head(ledger: Ledger, settings: Mapping[str, Any]) -> tuple[Generator, str]:
    """The diffusion head, and what became of its Fourier vector; its keys count as loaded.

    Args:
        ledger: of the checkpoint.
        settings: its ``config.json``; says what rotary tables and widths do not.

    Raises:
        UserError: keys that do not fit, a config that disagrees with them, or another Fourier vector.
    """
    ledger.take([SCALE_RAE_PREFIX + POSITION])
    tensors = ledger.take_under(SCALE_RAE_PREFIX)
    note = _check_frequencies(tensors.pop(FREQUENCIES, None), ledger.source)
    if settings.get("generation_alignment_tower"):
        tensors = in_patches(tensors, int(settings.get("patch_size", 2)), ledger.source)
    heads, head_depth = settings.get("diffusion_model_heads"), None
    if settings.get("vision_loss") == "ddt-loss" and isinstance(settings.get("diffusion_model_depth"), int):
        head_depth = settings["diffusion_model_depth"] - settings.get("ddt_encoder_depth", 0)
    published = dit_from(tensors, heads if isinstance(heads, int) else None, head_depth, ledger.source)
    shape, cond_width = published.backbone.config.shape, published.backbone.cond_width
    found = {"hidden_size": shape.width, "depth": shape.depth, "heads": shape.heads, "z_channels": cond_width}
    for name, value in found.items():
        stated = settings.get(f"diffusion_model_{name}")
        # Lists are the wide DDT form; z_channels 0 means the language model's own width.
        if isinstance(stated, int) and stated and head_depth is None and stated != value:
            raise UserError(
                f"{ledger.source}: diffusion_model_{name} is {stated} in {CONFIG_FILE}, {value} in the weights; copy "
                "both again"
            )
    return published, note


def take_condition(ledger: Ledger, published: Generator) -> tuple[dict[str, Tensor], str]:
    """The state of our conditioner (all but the fingerprint), and what the report says of the connector.

    A model without a connector gets one that changes nothing, exactly: the identity.

    Raises:
        UserError: keys are missing, or the number of queries is not that of latent tokens.
    """
    queries = ledger.take([QUERIES])[QUERIES]
    width = published.backbone.cond_width
    if len(queries) != published.backbone.num_tokens:
        raise UserError(
            f"{ledger.source}: {len(queries)} queries for {published.backbone.num_tokens} latent tokens; it cannot be "
            "imported"
        )
    if f"{CONNECTOR}.weight" in ledger.tensors:
        weight, bias = ledger.take([f"{CONNECTOR}.weight", f"{CONNECTOR}.bias"]).values()
        note = f"connector {queries.shape[1]} to {width}"
    elif queries.shape[1] == width:
        weight, bias, note = torch.eye(width), torch.zeros(width), "no connector in the checkpoint: the identity"
    else:
        raise UserError(f"{ledger.source}: {CONNECTOR}.weight is missing; check that it is the right file")
    null_token = torch.zeros(width) if published.condition is None else published.condition
    state = {"queries": queries, "connector.weight": weight, "connector.bias": bias, "null_token": null_token}
    return {key: value.float() for key, value in state.items()}, note


def in_patches(tensors: Mapping[str, Tensor], patch_size: int, source: str) -> dict[str, Tensor]:
    """The tensors of a head that sees VAE latents as tokens of ``C p^2`` channels, as one that cuts patches itself.

    The published tokens hold a patch channel by channel; ours come out of the last layer cell by cell.

    Raises:
        UserError: the channels are no patches.
    """
    tensors = dict(tensors)
    for name in ("model.x_embedder.proj.weight", "model.s_embedder.proj.weight"):
        if name in tensors:
            width, token = tensors[name].shape[:2]
            if token % patch_size**2:
                raise UserError(f"{source}: {name} has {token} channels, no patches of {patch_size} x {patch_size}")
            tensors[name] = tensors[name].reshape(width, -1, patch_size, patch_size)
    for kind in ("weight", "bias"):
        name = f"model.final_layer.linear.{kind}"
        if name in tensors:
            rows = tensors[name].reshape(-1, patch_size**2, *tensors[name].shape[1:])
            tensors[name] = rows.transpose(0, 1).reshape(tensors[name].shape)
    return tensors


def _check_frequencies(stored: Tensor | None, source: str) -> str:
    """What to say of the Fourier vector, which our time embedding has drawn from the same seed."""
    if stored is None:
        return f"drawn from seed {TIME_SEED}, as published"
    difference = float((stored.float() - time_frequencies()).abs().max()) if stored.shape == (256,) else float("inf")
    if difference > FREQUENCY_TOLERANCE:
        raise UserError(
            f"{source}: its stored t_embedder.W is not the one of seed {TIME_SEED} (largest difference "
            f"{difference:.1e}); it was not written by Scale-RAE's code, and cannot be imported as if it were"
        )
    return f"drawn from seed {TIME_SEED}; the stored ones are the same to {difference:.0e}"
