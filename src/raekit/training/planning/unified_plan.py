"""What ``raekit explain`` and the estimates of memory and time know of a unified run.

In: a recipe of the stage. Out: the rows of stage 2, with the model that sees: projector, adapters, shares of the
mixture. Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raekit.data.conversations.questions import Questions
from raekit.data.conversations.requests import Requests
from raekit.data.mixture import domain_names
from raekit.encoders import ENCODERS
from raekit.training.planning import plan
from raekit.training.planning.latent_outline import encoding_work, latent_of
from raekit.training.planning.work import BF16, FP32, Part, Rows

if TYPE_CHECKING:
    from raekit.training.unified import Unified


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
        (
            "pictures",
            "shown and drawn, as the data has them" if draws(config) else "taken to be shown, none to be drawn",
        ),
    ]
    return [*rows, *added]


def parts(config: Unified.Config) -> tuple[Part, ...]:
    """The networks at work in a training step; a conversation is taken to hold one picture, shown or drawn.

    Where nothing is drawn the backbone rests. A tower is at work on the share of the mixture that may show pictures.
    """
    found = list(plan.parts(outlined(config)))
    if not draws(config):
        resting = {"backbone"} if config.condition.tower is None else {"backbone", "encoder"}
        found = [replace(part, work=part.work.at_rest()) if part.name in resting else part for part in found]
    if config.condition.tower is not None:
        found.append(_tower(config))
    return tuple(found)


def draws(config: Unified.Config) -> bool:
    """Whether pictures are drawn in training, as far as a recipe tells: conversations in files hold what they hold, and
    are taken to draw nothing where the backbone is frozen."""
    sources, is_frozen = config.data.mixture, "backbone" in config.frozen
    if any(isinstance(source, Requests.Config) for source in sources):
        return True
    return not is_frozen and not all(isinstance(source, Questions.Config) for source in sources)


def outlined(config: Unified.Config) -> Unified.Config:
    """The recipe with the shape of what its model sees."""
    condition = config.condition.model_copy(update={"vision_shape": vision_shape(config)})
    return config.model_copy(update={"condition": condition})


def vision_shape(config: Unified.Config) -> tuple[int, int]:
    """Tokens of a picture that is shown, and their channels."""
    tower: Any = config.condition.tower
    if tower is not None:
        outline = ENCODERS[tower.name].outline(tower)
        return outline.grid**2, outline.width
    channels, height, width = latent_of(config).shape
    return height * width, channels


def _tower(config: Unified.Config) -> Part:
    """What pictures are seen through beside a VAE; requests show none."""
    tower: Any = config.condition.tower
    encoder = ENCODERS[tower.name].outline(tower)
    work, sources = encoding_work(encoder, encoder.input_size), config.data.mixture
    seen = _weight(s for s in sources if not isinstance(s, Requests.Config)) / _weight(sources)
    work = replace(work, forward=round(seen * work.forward), training=round(seen * work.training))
    return Part("tower", work, weight_bytes=BF16 if tower.precision == "bf16" else FP32)


def _weight(sources: Iterable[Any]) -> float:
    return sum(float(source.weight) for source in sources)


def _way(config: Unified.Config) -> str:
    lora = config.condition.lora
    if lora is not None and not {"language_model", "conditioner"} & set(config.frozen):
        return f"{plan.count_adapters(config):,} numbers of adapters of rank {lora.rank} beside it"
    is_trained = config.condition.is_llm_trained and not {"language_model", "conditioner"} & set(config.frozen)
    return "whole" if is_trained else "not; it is frozen"
