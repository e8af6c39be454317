"""What a training stage is: the contract the loop drives, and the settings that all recipes share.

In: a resolved recipe. Out: modules to train, batches from any position of the data stream, and the players of a step:
who is trained on which loss. Most stages have one player and only say its loss; adversarial training has two that take
turns on the same batch. A stage never sees checkpoints, schedules or clipping: the loop in ``loop.py`` owns those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from raekit import distributed
from raekit.config import Config
from raekit.data.dataset import Dataset
from raekit.data.loader import Batch, Loader
from raekit.data.quarantine import QUARANTINE_FILE, Quarantine
from raekit.device import Precision, autocast
from raekit.durations import Steps, resolve_epochs
from raekit.training import STAGES
from raekit.training.blocks import blocks_of
from raekit.training.draws import Draws
from raekit.training.guarding.guards import GuardConfig
from raekit.training.optim import OptimConfig
from raekit.training.parallel.placement import ALONE, ParallelConfig, Placement
from raekit.training.parallel.sharding import cut_like
from raekit.training.planning.machines import Machine
from raekit.training.planning.work import Checkpointing, Part


class TrainConfig(Config):
    """Length, batch, precision and bookkeeping of a run."""

    steps: Steps = Field(gt=0)
    """Optimiser steps."""
    batch_size: int = Field(gt=0)
    """Samples per optimiser step, over all micro-batches and processes."""
    micro_batch_size: int | None = Field(None, gt=0)
    """Samples per forward pass over all processes; None = ``batch_size``. Gradients are averaged over the batch."""
    images_per_epoch: int | None = Field(None, gt=0)
    """Samples of an epoch, real or virtual; lets durations be written as ``16 epochs``."""
    precision: Precision = "auto"
    """Arithmetic of matrix products; weights, optimiser and averages are fp32."""
    float32_matmul_precision: Literal["highest", "high"] = "highest"
    """What CUDA makes of matrix products that stay fp32: exact ones (``highest``), or TF32 on tensor cores (``high``),
    which is several times as fast and rounds what is multiplied to 10 bits. It is torch's switch of that name."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    encode_ahead: bool | Literal["auto"] = "auto"
    """Run the frozen networks on the next batch while this one is learned from; ``auto``: on CUDA. Never a result."""
    log_every_steps: Steps = Field(10, gt=0)
    """Steps between lines of metrics.jsonl."""
    save_every_steps: Steps = Field(1000, gt=0)
    """Steps between checkpoints."""
    sample_every_steps: Steps = Field(1000, gt=0)
    """Steps between sheets of pictures and held-out metrics (both made with the averaged weights)."""
    keep_last: int = Field(2, gt=0)
    """Newest checkpoints kept."""
    keep_every_steps: Steps | None = Field(None, gt=0)
    """Checkpoints at multiples of it are kept for good, itself one of ``save_every_steps``; None = only the newest."""
    save_in_background: bool | Literal["auto"] = "auto"
    """Copy the weights and write them while training goes on, at the price of their size in host memory; ``auto``: on
    CUDA. Never a result."""
    stop_seconds: float = Field(300, gt=0)
    """After SIGTERM or SIGUSR1 the run finishes its step, saves and leaves within so many seconds; a run that cannot
    is ended at their end, its last checkpoint untouched."""
    extra_ema: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = ()
    """Decays of more averages; each is in the checkpoints, and exported below ``ema_DECAY/`` of the run directory."""
    compile: bool = False
    """Compile every transformer block with ``torch.compile``; a C++ compiler (CPU) or Triton (CUDA) is needed."""
    checkpoint_activations: bool | Checkpointing | Literal["auto"] = "auto"
    """Keep only what enters a transformer block, the language model's too, and compute the rest again on the way back:
    of all blocks (``full``, true), about a third more arithmetic and memory for one block instead of all; of every
    second one (``selective``); of ``none`` (false). ``auto``: the first of none, selective and full that fits into the
    GPU by the estimate of ``raekit explain``; none on a CPU. Never a result."""
    parallel: ParallelConfig = ParallelConfig()
    """How several processes share the work."""
    max_bad_steps: int = Field(20, gt=0)
    """Bad steps in a row (not finite, or spikes) after which the run goes back or stops; seen at the next log line."""
    guards: GuardConfig = GuardConfig()
    """What a spike is, and what becomes of a run with too many bad steps in a row."""
    stuck_after_seconds: float | None = Field(480, gt=0)
    """Seconds without a micro-batch or a step after which a process writes the stacks of its threads to the run
    directory and exits with code 75; less than the 10 minutes after which NCCL ends it without a word. Starting,
    saving, evaluating, compiling and exporting have ten times as long between signs of life. None = never."""
    tensorboard: bool = False
    """Also write TensorBoard event files (``pip install 'raekit[train]'``)."""

    @model_validator(mode="after")
    def _check_micro_batch(self) -> TrainConfig:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _check_kept(self) -> TrainConfig:
        if self.keep_every_steps and self.keep_every_steps % self.save_every_steps:
            raise ValueError(
                f"keep_every_steps {self.keep_every_steps} must be a multiple of save_every_steps "
                f"{self.save_every_steps}, or fewer are kept than it says"
            )
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

    @model_validator(mode="before")
    @classmethod
    def _epochs_to_steps(cls, values: Any) -> Any:
        return resolve_epochs(values) if isinstance(values, Mapping) else values

    def describe(self, machine: Machine | None = None) -> list[tuple[str, str]]:
        """Rows of ``raekit explain``: what the code derives from the recipe; ``machine`` is what the run is for."""
        rows: list[tuple[str, str]] = STAGES[self.stage].describe(self, machine)
        return rows

    def parts(self) -> tuple[Part, ...]:
        """The networks at work in a training step; none for a stage that does not count them."""
        found: tuple[Part, ...] = STAGES[self.stage].parts(self)
        return found


Terms = dict[str, Tensor]
"""Averages over a batch, by the name under which they are logged."""


@dataclass(frozen=True)
class Micro:
    """One micro-batch of a step, ready for every player.

    Attributes:
        batch: as the data gave it.
        prepared: what :meth:`Stage.prepare` made of it.
        draws: its random numbers.
    """

    batch: Any
    prepared: Any
    draws: Draws


@dataclass(frozen=True)
class Group:
    """Weights that share an optimiser, by ``module.name``."""

    parameters: dict[str, nn.Parameter]
    optim: OptimConfig
    is_averaged: bool = True


@dataclass(frozen=True)
class Player:
    """Whoever moves its weights along its own loss once a step.

    Attributes:
        name: for the log; empty for the only or the main player, whose terms are logged without a prefix.
        groups: its weights, each group with an optimiser of its own, by name.
        descend: leaves the gradients of its loss, averaged over the micro-batches, in its weights; returns the terms.
            Called with the micro-batches of the step and the number of the step.
        start_step: before it the player rests.
    """

    name: str
    groups: dict[str, Group]
    descend: Callable[[Sequence[Micro], int], Terms]
    start_step: int = 0

    def prefixed(self, name: str) -> str:
        """A name as it is logged and saved."""
        return f"{self.name}/{name}" if self.name else name


class Stage(ABC):
    """Base of the stages. Subclasses set ``Config`` and build their modules from it in ``__init__``."""

    Config: type[Recipe]

    def __init__(self, config: Any, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.placement = Placement(ALONE)
        self.quarantine = Quarantine(config.run / QUARANTINE_FILE)
        torch.manual_seed(config.seed)

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """The modules that are trained, saved and averaged, by name."""

    @abstractmethod
    def batches(self, position: int, size: int) -> Iterator[Any]:
        """This process's part of micro-batches of ``size`` samples, from global ``position`` on, without end."""

    @abstractmethod
    def loss(self, prepared: Any, draws: Draws) -> Mapping[str, Tensor]:
        """Terms averaged over the micro-batch; ``"loss"`` is the one that is differentiated."""

    @abstractmethod
    def sheet(self) -> Image.Image:
        """A sheet of pictures that shows how far the run is."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Held-out metrics, the same on every process. All call it, and may share the work (``held_out.py``)."""

    @abstractmethod
    def export(self, directory: Path) -> Path:
        """Write the finished artefact below ``directory``.

        Called in the first process only, with the averaged weights in place, whole and plain. Networks that were cut
        over the processes do not run here; :meth:`complete` is for that.
        """

    @classmethod
    def describe(cls, config: Any, machine: Machine | None = None) -> list[tuple[str, str]]:
        """Rows of ``raekit explain``: what was derived from the recipe, for the machine that it is planned for."""
        del config, machine
        return []

    @classmethod
    def parts(cls, config: Any) -> tuple[Part, ...]:
        """The networks at work in a training step, for estimates of memory and time; none where nobody counted them."""
        del config
        return ()

    def prepare(self, batch: Any) -> Any:
        """What all players share of a micro-batch and no gradient reaches: on the device, through frozen networks."""
        return batch

    def players(self) -> list[Player]:
        """Who is trained, in the order of their turns; one player with one group unless a stage says otherwise."""
        return [Player("", {"model": Group(self.parameters(), self.config.optim)}, self.descend)]

    def descend(self, micros: Sequence[Micro], step: int) -> Terms:
        """Gradients of :meth:`loss`, averaged over the micro-batches."""
        del step
        total: Terms = {}
        for micro in self.placement.accumulate(micros):
            with self.autocast():
                terms = self.loss(micro.prepared, micro.draws)
            (terms["loss"] / len(micros)).backward()  # type: ignore[no-untyped-call]
            add_terms(total, terms, 1 / len(micros))
        return total

    def fill(self) -> None:  # noqa: B027  # most stages build whole networks
        """Give networks that were built as outlines their numbers, once they are cut (``deferred.py``)."""

    def frozen(self) -> dict[str, nn.Module]:
        """The networks that only run forward, by name: what ``train.parallel.frozen`` acts on."""
        return {}

    @property
    def are_frozen_cut(self) -> bool:
        """Whether the frozen networks run on all processes together or not at all."""
        return self.placement.is_sharded and self.config.train.parallel.frozen == "sharded"

    def complete(self) -> None:  # noqa: B027  # most stages have nothing left to compute
        """Compute what the artefact needs beside the weights; by every process, ahead of :meth:`export` by the first.

        The averaged weights are in place.
        """

    def read(self, dataset: Dataset, position: int, size: int) -> Iterator[Batch]:
        """This process's part of a data set's micro-batches of ``size``, read ahead, from a position on."""
        settings = Loader.Config(pin_memory=self.device.type == "cuda")
        rank, world = distributed.rank(), distributed.world()
        loader = Loader(dataset, size, rank=rank, world=world, start_position=position, settings=settings)
        loader.quarantine = self.quarantine
        self.quarantine.add(dataset.left_out)
        return iter(loader)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks that gradients pass through: what ``train.compile`` and its neighbour act on."""
        return [block for module in self.modules().values() for block in blocks_of(module)]

    def counts(self, position: int) -> dict[str, int]:
        """Samples of each domain before a position of the data stream, for the log."""
        del position
        return {}

    def data_fingerprint(self) -> str:
        """Digits that change when positions of the data stream may hold other samples; empty where none are read."""
        return ""

    def autocast(self) -> AbstractContextManager[object]:
        """The recipe's arithmetic."""
        return autocast(self.config.train.precision, self.device)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters as ``module.name -> parameter``."""
        return named_parameters(self.modules())

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers of all modules as ``module.name -> tensor``."""
        return {f"{m}.{n}": v for m, module in self.modules().items() for n, v in module.state_dict().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave, here or on any other number of processes."""
        for name, module in self.modules().items():
            prefix, own = f"{name}.", module.state_dict()
            given = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            module.load_state_dict({k: cut_like(v, own[k]) if k in own else v for k, v in given.items()})


def named_parameters(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Trainable parameters of several modules as ``module.name -> parameter``."""
    named = ((f"{m}.{n}", p) for m, module in modules.items() for n, p in module.named_parameters())
    return {name: p for name, p in named if p.requires_grad}


def add_terms(total: Terms, terms: Mapping[str, Tensor], share: float) -> None:
    """Add a micro-batch's share of the averages to those of the step."""
    for name, value in terms.items():
        total[name] = total.get(name, torch.zeros((), device=value.device)) + value.detach().float() * share
