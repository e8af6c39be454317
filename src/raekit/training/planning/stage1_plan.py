"""What a step of stage 1 comes to: encoder, decoder, the networks that pictures are compared through, discriminator.

In: a resolved recipe, and its latent space on the meta device. Out: the parts that ``budget.py`` turns into memory and
hours, as they are at the end of the run, when every loss is at work. Nothing is loaded: networks are counted on fakes
(``work.py``), the decoder on shallow copies.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from raekit.autoencoder.base import Trainable
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.rae import RAE
from raekit.encoders.base import EncoderConfig
from raekit.training.planning.pieces import with_pieces
from raekit.training.planning.stage1_outline import networks_of
from raekit.training.planning.work import BF16, FP32, Part, Work, measure, work_of

if TYPE_CHECKING:
    from raekit.training.stage1 import Stage1

ENCODER, LOSS_ENCODER, VGG = "encoder", "loss encoder", "VGG16 and LPIPS"
"""Names of frozen networks, as ``stage1_outline.networks_of`` gives them."""


def parts(config: Stage1.Config, model: Trainable) -> tuple[Part, ...]:
    """The networks at work in a training step.

    Args:
        config: the recipe.
        model: its latent space, as :meth:`Trainable.outline` gives it.
    """
    is_bf16 = config.train.precision != "fp32"
    opponent, networks, _ = networks_of(config, model)
    found = [_redrawing(config, model, is_bf16)]
    for name, network in networks.items():
        work = _seen_through(config, model, name, network, is_bf16)
        found.append(Part(name, with_pieces(work, network), weight_bytes=_weight_bytes(config, name)))
    if opponent is not None and config.adversary is not None:
        work = _opponent_work(opponent, model.output_size, is_bf16)
        found.append(Part("discriminator's heads", work, config.adversary.optim.name, is_averaged=False))
    return tuple(found)


def _redrawing(config: Stage1.Config, model: Trainable, is_bf16: bool) -> Part:
    """What learns to redraw. A discriminator sees pictures drawn anew, and its gradients cost another drawing where
    there are several micro-batches (:meth:`Stage1.descend`)."""
    has_opponent, is_split = config.adversary is not None, config.train.batch_size > config.train.micro_batch
    extra = (1 + is_split) if has_opponent else 0
    if not isinstance(model, RAE):
        size = config.data.image_size
        work = measure(model, lambda m, count: m.redraw(torch.empty(count, 3, size, size))[0], is_bf16)
        return Part("latent space", replace(work, ends=work.parameters), config.optim.name, extra_forwards=extra)
    channels, grid = model.shape[0], model.shape[1]
    settings = model.decoder.config

    def build(depth: int) -> nn.Module:
        with torch.device("meta"):
            return ViTDecoder(settings.model_copy(update={"depth": depth}), channels, model.decoder.grid)

    def call(decoder: Any, count: int) -> Tensor:
        drawn: Tensor = decoder(torch.empty(count, grid**2, channels))
        return drawn

    stream = (model.decoder.grid**2 + 1) * settings.shape.width
    work = work_of(build, settings.shape.depth, call, is_bf16, stream)
    return Part("decoder", with_pieces(work, build(1)), config.optim.name, extra_forwards=extra)


def _seen_through(config: Stage1.Config, model: Trainable, name: str, network: Any, is_bf16: bool) -> Work:
    """A frozen network: the latent space's encoder sees each picture once; what losses look through sees what was
    drawn, with gradients, and the original where it is not known yet."""
    losses, size = config.losses, model.output_size
    weights = sum(parameter.numel() for parameter in network.parameters())
    work = Work(weights)
    if name == ENCODER:
        given = network.input_size
        work = measure(network, lambda m, count: m(torch.empty(count, 3, given, given)), is_bf16)
    if name == VGG:
        return measure(network, lambda m, count: m(_drawn(count, size), torch.empty(count, 3, size, size)), is_bf16)
    compares = name == LOSS_ENCODER or (name == ENCODER and config.loss_encoder is None)
    if compares and losses.encoder:
        work = _plus(work, measure(network, lambda m, count: m.features(_drawn(count, size)), is_bf16))
        if name == LOSS_ENCODER:
            work = _plus(work, measure(network, lambda m, count: m(torch.empty(count, 3, size, size)), is_bf16))
    if compares and losses.gram and not losses.lpips_vgg:
        taps = [measure(network, _tapping(losses.gram_layers, size, has_gradient), is_bf16) for has_gradient in (0, 1)]
        work = _plus(_plus(work, taps[0]), taps[1])
    return work


def _opponent_work(opponent: nn.Module, size: int, is_bf16: bool) -> Work:
    """Of the discriminator: fooled once, with gradients down to the picture, and told two pictures apart. The turns
    come one after the other; the first is the one whose activations lie beside the decoder's."""
    still = copy.deepcopy(opponent).requires_grad_(False)
    fooled = measure(still, lambda m, count: m(_drawn(count, size)), is_bf16)
    told = measure(opponent, lambda m, count: m(torch.empty(count, 3, size, size)), is_bf16)
    forward, training = fooled.forward + 2 * told.forward, fooled.training + 2 * told.training
    return replace(fooled, forward=forward, training=training, ends=told.parameters, learning=told.learning)


def _tapping(layers: tuple[int, ...], size: int, has_gradient: int) -> Any:
    """A call that reads tokens after some blocks of an encoder."""

    def call(encoder: Any, count: int) -> Tensor:
        image = _drawn(count, size) if has_gradient else torch.empty(count, 3, size, size)
        return torch.stack(list(encoder.taps(image, list(layers))))

    return call


def _drawn(count: int, size: int) -> Tensor:
    """Pictures that a gradient is wanted of."""
    return torch.empty(count, 3, size, size, requires_grad=True)


def _plus(one: Work, other: Work) -> Work:
    """The same network run in two ways at a step."""
    names = ("forward", "training", "activations", "checkpointed")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})


def _weight_bytes(config: Stage1.Config, name: str) -> int:
    """Of a weight of a frozen network as it is held."""
    choices = {ENCODER: getattr(config.autoencoder, "encoder", None), LOSS_ENCODER: config.loss_encoder}
    choice = choices.get(name)
    return BF16 if isinstance(choice, EncoderConfig) and choice.precision == "bf16" else FP32
