"""What ``raekit explain`` and the estimates of memory and time know of a unified run.

In: a recipe of the stage. Out: the rows of stage 2, with the model that sees: projector, adapters, shares of the
mixture. Nothing is loaded; of a language model with adapters only its shape is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raekit.conditioning.language_model import language_model_settings
from raekit.conditioning.language_shapes import known_settings
from raekit.data.mixture import domain_names
from raekit.encoders import ENCODERS
from raekit.multimodal.adapters import Adapters
from raekit.training.planning import plan
from raekit.training.planning.latent_outline import latent_of
from raekit.training.planning.work import Part, Work

if TYPE_CHECKING:
    from raekit.training.unified import Unified

Rows = list[tuple[str, str]]


def describe(config: Unified.Config) -> Rows:
    """Rows of ``raekit explain``.

    Raises:
        UserError: the latent space is unknown, or guidance that the model will not know.
    """
    rows = plan.describe(outlined(config))
    weights = [source.weight for source in config.data.mixture]
    shares = ", ".join(
        f"{name} {weight / sum(weights):.3g}"
        for name, weight in zip(domain_names(config.data.mixture), weights, strict=True)
    )
    packing = "one in each row" if config.data.row_tokens is None else f"packed into rows of {config.data.row_tokens}"
    added: Rows = [
        ("loss", f"cross entropy + {config.diffusion_weight:g} x diffusion"),
        ("language model learns", _way(config)),
        ("mixture", shares),
        ("conversations", f"up to {config.data.max_tokens} tokens, {packing}; up to {config.data.max_images} pictures"),
    ]
    return [*rows, *added]


def parts(config: Unified.Config) -> tuple[Part, ...]:
    """The networks at work in a training step; a conversation is taken to hold one picture, shown or drawn."""
    found = plan.parts(outlined(config))
    count = count_adapters(config)
    # Thin beside the maps that they adapt: their weights count, their operations do not.
    learning = Part("adapters", Work(count, ends=count), (config.language_model_optim or config.optim).name)
    return (*found, learning) if count else found


def outlined(config: Unified.Config) -> Unified.Config:
    """The recipe with the shape of what its model sees, and without adapters, which need a language model at hand."""
    condition = config.condition.model_copy(update={"lora": None, "vision_shape": vision_shape(config)})
    return config.model_copy(update={"condition": condition})


def vision_shape(config: Unified.Config) -> tuple[int, int]:
    """Tokens of a picture that is shown, and their channels."""
    tower: Any = config.condition.tower
    if tower is not None:
        outline = ENCODERS[tower.name].outline(tower)
        return outline.grid**2, outline.width
    channels, height, width = latent_of(config).shape
    return height * width, channels


def count_adapters(config: Unified.Config) -> int:
    """Numbers in the low-rank adapters."""
    lora, name = config.condition.lora, config.condition.language_model
    if lora is None:
        return 0
    from transformers import AutoModel

    with torch.device("meta"):
        settings = known_settings(name) or language_model_settings(name)
        reader: nn.Module = AutoModel.from_config(settings)  # type: ignore[no-untyped-call]
        return sum(parameter.numel() for parameter in Adapters(lora, reader).parameters())


def _way(config: Unified.Config) -> str:
    lora = config.condition.lora
    if lora is not None and not {"language_model", "conditioner"} & set(config.frozen):
        return f"{count_adapters(config):,} numbers of adapters of rank {lora.rank} beside it"
    is_trained = config.condition.is_llm_trained and not {"language_model", "conditioner"} & set(config.frozen)
    return "whole" if is_trained else "not; it is frozen"
