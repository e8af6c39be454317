"""Optimiser, learning-rate schedule and weight averaging.

In: the trainable parameters of a stage. Out: a configured ``torch.optim`` optimiser, the factor by which step ``s``
scales its learning rate, and an exponential moving average in fp32 (RAE, appendix: EMA 0.9995 for stage 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from raekit.config import Config


class ScheduleConfig(Config):
    """Learning rate over the run, as a factor of the base rate."""

    shape: Literal["constant", "cosine", "linear"] = "cosine"
    """Form of the decay after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps of linear warm-up."""
    is_warmup_from_zero: bool = True
    """Step ``s`` of the warm-up uses ``(s + 1) / warmup_steps``; otherwise the base rate throughout."""
    decay_end_steps: int | None = Field(None, ge=0)
    """Step at which ``final_factor`` is reached; None = the last step of the run."""
    final_factor: float = Field(0.0, ge=0.0, le=1.0)
    """Final learning rate as a share of the base rate."""


class OptimConfig(Config):
    """AdamW and its schedule."""

    lr: float = Field(2e-4, gt=0)
    """Base learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW moment decays."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases, tokens) are never decayed."""
    eps: float = Field(1e-8, gt=0)
    """AdamW denominator floor."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Global gradient norm above which gradients are scaled down; None = no clipping."""
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


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW over the parameters that require a gradient; decay on matrices only."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class EMA:
    """Averaged copies of named parameters: ``e <- d e + (1 - d) p`` after every optimiser step, in fp32.

    Only parameters that are trained are averaged; frozen ones and buffers are read from the module itself.
    """

    def __init__(self, named_parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self._live = dict(named_parameters)
        self.values = {name: p.detach().float().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the live weights."""
        live = [p.detach().float() for p in self._live.values()]
        torch._foreach_lerp_(list(self.values.values()), live, 1 - self.decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore averages saved from :attr:`values`."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged weights; call again to undo (used around evaluation)."""
        for name, live in self._live.items():
            kept = live.detach().clone()
            live.copy_(self.values[name])
            self.values[name].copy_(kept)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat ``"index.name" -> tensor``, for a safetensors file."""
    states = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(v) for index, state in states.items() for name, v in state.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what :func:`optimizer_tensors` gave; learning rates are set by the loop at every step."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
