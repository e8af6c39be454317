"""What a training stage is: the contract the loop drives, and the settings that all recipes share.

In: a resolved recipe. Out: modules to train, batches from any position of the data stream, and the loss of one
micro-batch. A stage never sees steps, accumulation, precision or checkpoints: the loop in ``loop.py`` owns those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from raekit.config import Config
from raekit.device import Precision
from raekit.training import STAGES
from raekit.training.draws import Draws
from raekit.training.optim import OptimConfig


class TrainConfig(Config):
    """Length, batch, precision and bookkeeping of a run."""

    steps: int = Field(gt=0)
    """Optimiser steps."""
    batch_size: int = Field(gt=0)
    """Samples per optimiser step, over all micro-batches."""
    micro_batch_size: int | None = Field(None, gt=0)
    """Samples per forward pass; None = ``batch_size``. Gradients are averaged over the whole batch."""
    precision: Precision = "auto"
    """Arithmetic of matrix products; weights, optimiser and averages are fp32."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    log_every_steps: int = Field(10, gt=0)
    """Steps between lines of metrics.jsonl."""
    save_every_steps: int = Field(1000, gt=0)
    """Steps between checkpoints."""
    sample_every_steps: int = Field(1000, gt=0)
    """Steps between sheets of pictures and held-out metrics (both made with the averaged weights)."""
    keep_last: int = Field(2, gt=0)
    """Checkpoints kept."""
    max_bad_steps: int = Field(20, gt=0)
    """Non-finite steps in a row after which the run stops."""
    tensorboard: bool = False
    """Also write TensorBoard event files (``pip install 'raekit[train]'``)."""

    @model_validator(mode="after")
    def _check_micro_batch(self) -> TrainConfig:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        return self

    @property
    def micro_batch(self) -> int:
        """Samples per forward pass."""
        return self.micro_batch_size or self.batch_size


class Recipe(Config):
    """The settings every stage has; each stage's ``Config`` adds its own."""

    stage: str
    """Row of the ``stages`` registry."""
    run: Path
    """Run directory; also what is exported at the end lies below it."""
    seed: int = Field(0, ge=0)
    """Seed of weights, data order and training noise."""
    optim: OptimConfig = OptimConfig()
    """Optimiser, schedule and averaging."""
    train: TrainConfig
    """Length, batch and bookkeeping."""

    def describe(self) -> list[tuple[str, str]]:
        """Rows of ``raekit explain``: what the code derives from the recipe."""
        rows: list[tuple[str, str]] = STAGES[self.stage].describe(self)
        return rows


class Positioned(Protocol):
    """A micro-batch: whatever the stage needs, and the global position of each sample."""

    @property
    def positions(self) -> Tensor:
        """``[B]`` int64."""


class Stage(ABC):
    """Base of the stages. Subclasses set ``Config`` and build their modules from it in ``__init__``."""

    Config: type[Recipe]

    def __init__(self, config: Any, device: torch.device) -> None:
        self.config = config
        self.device = device
        torch.manual_seed(config.seed)

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """The modules that are trained, saved and averaged, by name."""

    @abstractmethod
    def batches(self, position: int, size: int) -> Iterator[Any]:
        """Micro-batches of ``size`` samples, from global ``position`` on, without end."""

    @abstractmethod
    def loss(self, batch: Any, draws: Draws) -> Mapping[str, Tensor]:
        """Terms averaged over the micro-batch; ``"loss"`` is the one that is differentiated."""

    @abstractmethod
    def sheet(self) -> Image.Image:
        """A sheet of pictures that shows how far the run is."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Held-out metrics."""

    @abstractmethod
    def export(self, directory: Path) -> Path:
        """Write the finished artefact below ``directory``; the averaged weights are in place when this is called."""

    @classmethod
    def describe(cls, config: Any) -> list[tuple[str, str]]:
        """Rows of ``raekit explain``: what was derived from the recipe."""
        del config
        return []

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters as ``module.name -> parameter``."""
        named = ((f"{m}.{n}", p) for m, module in self.modules().items() for n, p in module.named_parameters())
        return {name: p for name, p in named if p.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers of all modules as ``module.name -> tensor``."""
        return {f"{m}.{n}": v for m, module in self.modules().items() for n, v in module.state_dict().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        for name, module in self.modules().items():
            prefix = f"{name}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
