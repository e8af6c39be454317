"""What a stage-1 recipe comes to, before a GPU is asked for it.

In: a resolved recipe, and its latent space on the meta device. Out: rows of ``raekit explain``: the shape of every
tensor on the way from picture to picture, weights trained and frozen, pictures and steps, learning rates and losses by
step, and the least memory. The sizes of published networks are known without the hub: nothing is loaded or downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from raekit.autoencoder.base import Trainable
from raekit.autoencoder.rae import RAE
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.errors import UserError
from raekit.losses import DISCRIMINATORS
from raekit.losses.dino import DINO, INPUT_SIZE
from raekit.losses.discriminator import Discriminator
from raekit.losses.perceptual import LPIPS
from raekit.training.optim import OptimConfig, lr_factor
from raekit.training.planning.memory import MOMENTS
from raekit.training.planning.work import BF16, FP32, Rows

if TYPE_CHECKING:
    from raekit.training.stage1 import Stage1


def describe(config: Stage1.Config, model: Trainable) -> Rows:
    """All rows of a recipe.

    Args:
        config: the recipe.
        model: its latent space, as :meth:`Trainable.outline` gives it.
    """
    opponent, networks, notes = networks_of(config, model)
    frozen = {name: _count([network]) for name, network in networks.items()}
    return [
        *shapes(config, model),
        *_opponent_rows(opponent),
        *_trained_rows(model, opponent),
        ("frozen parameters", ", ".join([f"{sum(frozen.values()):,}", *(f"{k} {v:,}" for k, v in frozen.items())])),
        *notes,
        *course(config),
        ("memory", _memory(config, model, opponent, frozen)),
    ]


def shapes(config: Stage1.Config, model: Trainable) -> Rows:
    """Tensors on the way from picture to picture; ``B`` is the batch of one pass."""
    given, drawn = config.data.image_size, model.output_size
    channels, height, width = model.shape
    latent = ("latent", f"{channels} x {height} x {width} = {model.dim} numbers")
    compared = "" if given == drawn else f", compared with the image resized from {given} px"
    ends = ("image as given", f"[B, 3, {given}, {given}]"), ("decoder output", f"{drawn} x {drawn} px{compared}")
    if not isinstance(model, RAE):
        return [ends[0], latent, ends[1]]
    encoder, decoder, num_tokens = model.encoder, model.decoder, height * width
    seen = f"[B, 3, {encoder.input_size}, {encoder.input_size}], in patches of {encoder.patch_size}"
    patches = f"[B, {num_tokens}, {3 * decoder.patch_size**2}], in patches of {decoder.patch_size}"
    return [
        ("encoder", encoder.config.path or encoder.config.hub_id),
        ends[0],
        ("image as the encoder sees it", seen),
        ("tokens", f"[B, {num_tokens}, {channels}], {_layers(encoder)}"),
        latent,
        ("inside the decoder", f"[B, {decoder.grid**2 + 1}, {decoder.embed.out_features}]"),
        ("decoder patches", patches),
        ends[1],
    ]


def course(config: Stage1.Config) -> Rows:
    """Length, learning rates and losses of the run, all in steps."""
    train, adversary = config.train, config.adversary
    pictures = train.steps * train.batch_size
    epoch = train.images_per_epoch
    epochs = f", {pictures / epoch:.4g} epochs of {epoch:,}" if epoch else ""
    passes = train.batch_size // train.micro_batch
    split = f", in {passes} passes of {train.micro_batch}" if passes > 1 else ""
    rows = [
        ("pictures", f"{pictures:,}{epochs}"),
        ("steps", f"{train.steps:,} of {train.batch_size} pictures{split}"),
        ("learning rate", timetable(config.optim, train.steps)),
    ]
    if adversary is not None:
        text = timetable(adversary.optim, train.steps, adversary.discriminator_start_steps)
        rows.append(("discriminator's learning rate", text))
    return [*rows, ("losses", _losses(config))]


def timetable(optim: OptimConfig, total_steps: int, start_step: int = 0) -> str:
    """A learning rate over a run of ``total_steps`` in words, for weights that learn from ``start_step`` on."""
    schedule = optim.schedule
    warm = start_step + schedule.warmup_steps
    text = f"0 until step {start_step:,}, then " if start_step else ""
    rise = f"up to {optim.lr:g} at" if schedule.is_warmup_from_zero else f"{optim.lr:g} until"
    text += f"{rise} step {warm:,}" if warm > start_step else f"{optim.lr:g}"
    if schedule.shape == "constant":
        return f"{text}, constant"
    end = total_steps if schedule.decay_end_steps is None else start_step + schedule.decay_end_steps
    text += f", {schedule.shape} to {optim.lr * schedule.final_factor:g} at step {end:,}"
    if end <= total_steps:
        return text
    last = optim.lr * lr_factor(total_steps - 1 - start_step, schedule, total_steps - start_step)
    return f"{text} (the run ends before, at {last:.3g})"


def _layers(encoder: RepresentationEncoder) -> str:
    """Which blocks the tokens come from."""
    numbers = [str(number) for number in encoder.layers]
    if len(numbers) == 1:
        return f"of block {numbers[0]} of {encoder.depth}"
    listed = ", ".join(numbers if len(numbers) <= 7 else [*numbers[:2], "...", numbers[-1]])
    return f"{encoder.config.merge} of blocks {listed} of {encoder.depth}"


def _losses(config: Stage1.Config) -> str:
    """Each term, its weight, and the step at which it sets in."""
    losses, adversary = config.losses, config.adversary
    starts = {"lpips": losses.lpips_start_steps, "gram": losses.gram_start_steps}
    names = ("l1", "gradient", "encoder", "lpips", "gram")
    terms = [
        f"{name} {getattr(losses, name):g}{_from(starts.get(name, 0))}" for name in names if getattr(losses, name) > 0
    ]
    if adversary is not None:
        ratio = " x ratio of gradients" if adversary.is_adaptive else ""
        terms.append(f"adversarial {adversary.weight:g}{ratio}{_from(adversary.start_steps)}")
    return ", ".join(terms)


def _from(step: int) -> str:
    return f" from step {step:,}" if step else ""


def networks_of(config: Stage1.Config, model: Trainable) -> tuple[nn.Module | None, dict[str, nn.Module], Rows]:
    """The discriminator, each frozen network by name, and rows of what could not be counted; all on the meta device."""
    own = model.encoder if isinstance(model, RAE) else None
    networks: dict[str, nn.Module] = {} if own is None else {"encoder": own}
    notes: Rows = []
    seen_through = own
    if config.loss_encoder is not None:
        try:
            seen_through = networks["loss encoder"] = _outline(config.loss_encoder)
        except UserError as error:
            notes.append(("loss encoder", f"not counted: {error}"))
    opponent: nn.Module | None = None
    if config.adversary is not None:
        kind = DISCRIMINATORS[config.adversary.discriminator.model_dump()["name"]]
        opponent = kind.outline(config.adversary.discriminator, seen_through)
    backbone = getattr(opponent, "backbone", None)
    if isinstance(backbone, nn.Module) and backbone is not seen_through:
        networks["discriminator"] = backbone
    if config.losses.lpips_vgg and (config.losses.lpips or config.losses.gram):
        with torch.device("meta"):
            networks["VGG16 and LPIPS"] = LPIPS()
    return opponent, networks, notes


def _opponent_rows(opponent: nn.Module | None) -> Rows:
    """What the discriminator sees and says."""
    if not isinstance(opponent, Discriminator):
        return []
    backbone = opponent.backbone
    if isinstance(backbone, DINO):
        size, num_tokens = INPUT_SIZE, backbone.pos_embed.shape[1] - 1
    else:
        assert isinstance(backbone, RepresentationEncoder)
        size, num_tokens = backbone.input_size, backbone.grid**2
    heads = f"{len(opponent.heads)} heads on blocks {', '.join(map(str, opponent.layers))}"
    logits = f"logits [B, {len(opponent.heads) * num_tokens}]"
    return [("image as the discriminator sees it", f"[B, 3, {size}, {size}]; {heads}; {logits}")]


def _trained_rows(model: Trainable, opponent: nn.Module | None) -> Rows:
    """Weights that learn; positions are a fixed table, which published counts include."""
    rows = [(f"{name} parameters", f"{_count([module]):,}") for name, module in model.trained().items()]
    if isinstance(model, RAE):
        total = _count([model.decoder]) + model.decoder.position.numel()
        rows = [("decoder parameters", f"{_count([model.decoder]):,}, with its table of positions {total:,}")]
    return rows if opponent is None else [*rows, ("discriminator parameters", f"{_count([opponent]):,}")]


def _memory(config: Stage1.Config, model: Trainable, opponent: nn.Module | None, frozen: dict[str, int]) -> str:
    """What one process holds at least."""
    averages = FP32 * (1 + len(config.train.extra_ema))
    total = _count(model.trained().values()) * (2 * FP32 + MOMENTS[config.optim.name] + averages)
    if opponent is not None and config.adversary is not None:
        total += _count([opponent]) * (2 * FP32 + MOMENTS[config.adversary.optim.name])
    choices = {"encoder": getattr(config.autoencoder, "encoder", None), "loss encoder": config.loss_encoder}
    for name, count in frozen.items():
        choice = choices.get(name)
        is_rounded = isinstance(choice, EncoderConfig) and choice.precision == "bf16"
        total += count * (BF16 if is_rounded else FP32)
    return f"{total / 1e9:.1f} GB of weights, gradients, moments and averages a process; activations come on top"


def _outline(config: EncoderConfig) -> RepresentationEncoder:
    encoder: RepresentationEncoder = ENCODERS[config.model_dump()["name"]].outline(config)
    return encoder


def _count(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
