"""Optimisers, learning-rate schedules, and the update of one group of weights.

In: named parameters and an :class:`OptimConfig`. Out: :class:`Updater`, which clips, steps, averages and saves them. A
run may have several groups, each with an optimiser, schedule and clipping of its own: decoder and discriminator (RAE,
table 12), diffusion transformer and language model (Scale-RAE, section 3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from raekit.config import Config
from raekit.durations import Steps
from raekit.training.ema import EMA
from raekit.training.muon import Muon
from raekit.training.parallel.sharding import cut_like, piece, total_norm

IN_A_BLOCK = re.compile(r"(^|\.)\d+\.")
"""Of a weight's name: it belongs to a numbered block. Muon leaves what does not, the embeddings, tables, connectors and
output layers at the ends of a network, to AdamW (Jordan et al. 2024)."""
TABLES = ("embed", "bias")
"""Of a weight's name: a table although it is a matrix in a block (T5's relative positions)."""


class ScheduleConfig(Config):
    """Learning rate over the run, as a factor of the base rate."""

    shape: Literal["constant", "cosine", "linear"] = "cosine"
    """Form of the decay after the warm-up."""
    warmup_steps: Steps = Field(0, ge=0)
    """Optimiser steps of linear warm-up."""
    is_warmup_from_zero: bool = True
    """Step ``s`` of the warm-up uses ``(s + 1) / warmup_steps``; otherwise the base rate throughout."""
    decay_end_steps: Steps | None = Field(None, ge=0)
    """Step at which ``final_factor`` is reached; None = the last step of the run."""
    final_factor: float = Field(0.0, ge=0.0, le=1.0)
    """Final learning rate as a share of the base rate."""


class OptimConfig(Config):
    """An optimiser and its schedule."""

    name: Literal["adamw", "muon"] = "adamw"
    """``muon``: Muon for the matrices of the blocks; AdamW for the network's ends, vectors, tables and convolutions."""
    lr: float = Field(2e-4, gt=0)
    """Base learning rate. Muon's matrices use the same one, scaled so that their updates are as large as AdamW's."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW moment decays."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's momentum."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled decay of the weights of linear maps and convolutions; norms, biases and tokens are never decayed."""
    eps: float = Field(1e-8, gt=0)
    """AdamW denominator floor."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Gradient norm of the group above which its gradients are scaled down; None = no clipping."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Warm-up and decay."""
    ema: float = Field(0.9995, ge=0, lt=1)
    """Decay of the averaged weights, per optimiser step."""


def lr_factor(step: int, schedule: ScheduleConfig, total_steps: int) -> float:
    """Share of the base learning rate used at optimiser step ``step`` (counted from 0)."""
    warmup = schedule.warmup_steps
    if step < warmup:
        return (step + 1) / warmup if schedule.is_warmup_from_zero else 1.0
    if schedule.shape == "constant":
        return 1.0
    end = total_steps if schedule.decay_end_steps is None else schedule.decay_end_steps
    if step >= end:
        return schedule.final_factor
    progress = (step - warmup) / (end - warmup)
    decay = 1 - progress if schedule.shape == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return schedule.final_factor + (1 - schedule.final_factor) * decay


def build_optimizers(parameters: Mapping[str, nn.Parameter], config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
    """The optimisers of the parameters that require a gradient, by name: ``adamw`` (fused), and ``muon`` if asked for.

    Weight decay acts on the weights of linear maps and convolutions only. Muon takes the matrices of the blocks.
    Sharded weights and whole ones are groups apart, since one fused operation does not take both.
    """
    trainable = {name: p for name, p in parameters.items() if p.requires_grad}
    inner = sorted(name for name, p in trainable.items() if config.name == "muon" and _is_inner(name, p))
    rest = {name: p for name, p in trainable.items() if name not in inner}
    groups = [
        {
            "params": [
                p for n, p in rest.items() if _is_decayed(n, p) is is_decayed and isinstance(p, DTensor) is is_sharded
            ],
            "weight_decay": config.weight_decay if is_decayed else 0.0,
        }
        for is_sharded in (False, True)
        for is_decayed in (True, False)
    ]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if rest:
        kept = [g for g in groups if g["params"]]
        optimizers["adamw"] = torch.optim.AdamW(kept, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    if inner:
        optimizers["muon"] = Muon(
            [trainable[name] for name in inner],
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
    return optimizers


class Updater:
    """One group of weights on its way: optimisers, schedule, clipping, averages.

    Args:
        parameters: by name; those that require a gradient are trained.
        config: optimiser and schedule.
        total_steps: of the run.
        start_step: of the run, at which this group's own schedule starts counting.
        decays: of the averages kept beside the one of ``config.ema``; None = no average at all.

    Attributes:
        ema: the average that is evaluated and exported.
        extra: the other averages, by decay.
        lr_scale: on top of the schedule; the guards lower it.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        config: OptimConfig,
        total_steps: int,
        start_step: int = 0,
        decays: Sequence[float] | None = (),
    ) -> None:
        self.config = config
        self.start_step, self.total_steps = start_step, total_steps - start_step
        self.lr_scale = 1.0
        self.parameters = {name: p for name, p in parameters.items() if p.requires_grad}
        self.optimizers = build_optimizers(self.parameters, config)
        averaged = {} if decays is None else self.parameters
        self.ema = EMA(averaged, config.ema)
        self.extra = {decay: EMA(averaged, decay) for decay in decays or ()}

    def clip(self) -> Tensor:
        """Scale the gradients down to ``clip_norm``; their norm before that.

        A weight that the step left without a gradient gets one of zeros, which is what several processes come to when
        they average theirs: moments and decay move it, however many processes there are.
        """
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = total_norm(gradients)
        if self.config.clip_norm is not None:
            share = (self.config.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([piece(gradient) for gradient in gradients], share)
        return norm

    def lr(self, step: int) -> float:
        """Learning rate at a step of the run; 0 before this group's start."""
        if step < self.start_step:
            return 0.0
        factor = lr_factor(step - self.start_step, self.config.schedule, self.total_steps)
        return self.lr_scale * self.config.lr * factor

    def update(self, step: int, found_inf: Tensor | None = None) -> None:
        """Take the step ``step`` of the run with the gradients at hand, and move the averages.

        Args:
            step: of the run.
            found_inf: on the device, 1.0 for a step that leaves weights, optimiser and averages as they are. Whether it
                does is decided there, so that the host need not wait.
        """
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.lr(step)
            optimizer.found_inf = found_inf  # type: ignore[attr-defined]
            optimizer.step()
        for average in (self.ema, *self.extra.values()):
            average.update(found_inf)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Give back the memory of gradients and moments."""
        self.zero_grad()
        for optimizer in self.optimizers.values():
            optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """The optimisers' state as flat ``"optimiser.weight's name.quantity" -> tensor``; moments share memory with it.

        Moments of a sharded weight are cut like it.
        """
        return {
            f"{kind}.{name}.{quantity}": torch.as_tensor(value)
            for kind, optimizer in self.optimizers.items()
            for name, parameter in self.parameters.items()
            for quantity, value in optimizer.state.get(parameter, {}).items()
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave, here or on any other number of processes.

        The tensors are taken over and not copied, since moments are two thirds of what a run holds: the next step
        changes them. Learning rates follow from the step.
        """
        self.forget()
        for key, value in tensors.items():
            kind, name, quantity = key.split(".", 1)[0], *key.split(".", 1)[1].rsplit(".", 1)
            parameter = self.parameters[name]
            state: dict[str, Any] = self.optimizers[kind].state[parameter]
            value = value.to(parameter.device)
            state[quantity] = cut_like(value, parameter) if value.ndim else value  # a count of steps stays whole


def _is_inner(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon moves it."""
    is_table = any(word in part for part in name.split(".")[:-1] for word in TABLES)
    return parameter.ndim == 2 and IN_A_BLOCK.search(name) is not None and not is_table


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay pulls at it."""
    return parameter.ndim >= 2 and name.endswith("weight")
