"""The only training loop: accumulate, guard, clip, step, average, log, sample, save, resume.

In: a :class:`~raekit.training.stage.Stage` and its run directory. Out: checkpoints, a log, sheets of pictures, and the
exported artefact. Everything random belongs to a sample's position in the data stream, so that a run killed at any
moment and resumed from its last checkpoint ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from raekit import checkpoint, distributed
from raekit.device import pick_device
from raekit.encoders.ahead import encode_ahead
from raekit.errors import UserError
from raekit.training import STAGES
from raekit.training.bad_steps import BadSteps
from raekit.training.blocks import wrap
from raekit.training.draws import Draws
from raekit.training.ema import EMA
from raekit.training.meter import Meter
from raekit.training.optim import Updater
from raekit.training.run import RunDirectory
from raekit.training.stage import Micro, Player, Recipe, Stage, Terms

EMA_GROUP = "ema"
"""File of a checkpoint that holds the averaged weights; those of ``train.extra_ema`` have their decay after it."""


@dataclass(frozen=True)
class Seat:
    """A player of the stage and the updaters of its groups, by the name under which their state is saved."""

    player: Player
    updaters: dict[str, Updater]

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything the player moves."""
        return (p for updater in self.updaters.values() for p in updater.parameters.values())


class Trainer:
    """One run of one stage.

    Args:
        recipe: the resolved recipe.
        is_resumed: continue from the newest complete checkpoint of ``recipe.run``.
    """

    def __init__(self, recipe: Recipe, is_resumed: bool = False) -> None:
        self.recipe = recipe
        self.device = distributed.join(pick_device(recipe.train.device))
        self.run = RunDirectory(recipe.run, recipe, is_resumed, recipe.train.tensorboard)
        self.stage: Stage = STAGES[recipe.stage](recipe, self.device)
        wrap(self.stage.blocks(), recipe.train.compile, recipe.train.checkpoint_activations)
        self.seats = [self._seat(player) for player in self.stage.players()]
        self.updaters = {name: updater for seat in self.seats for name, updater in seat.updaters.items()}
        self.step = 0
        self._bad = BadSteps(self.device)
        self._stop = threading.Event()
        if is_resumed:
            self._resume()

    @property
    def bad_steps(self) -> int:
        """Steps in a row, up to now, that were not finite; asks the device."""
        return self._bad.now

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, as ``module.name -> parameter``."""
        return {name: p for updater in self.updaters.values() for name, p in updater.parameters.items()}

    def train(self) -> Path | None:
        """Run to the end, or until a signal asks to stop.

        Returns:
            The exported artefact, or None when the run was stopped early (a checkpoint was saved).
        """
        steps = self.recipe.train.steps
        with self._signals(), progress_bar() as progress:
            task = progress.add_task(self.recipe.stage, total=steps, completed=self.step, note="")
            meter = Meter()
            micros = meter.waiting(self.ready(self._batches()))
            while self.step < steps and not self._stop.is_set():
                meter.add(self.train_step(micros), self.recipe.train.batch_size)
                self._bookkeeping(meter, progress, task)
                progress.update(task, completed=self.step)
        if self.step < steps:
            self.save()
            return None
        return self._finish()

    def ready(self, batches: Iterator[Any]) -> Iterator[Micro]:
        """Micro-batches ready for the players; with ``train.encode_ahead`` always one ahead of them."""
        ahead = self.recipe.train.encode_ahead
        if ahead is False or (ahead == "auto" and self.device.type != "cuda"):
            return map(self._micro, batches)
        return (micro for _, micro in encode_ahead(batches, self._micro, self.device))

    def train_step(self, micros: Iterator[Micro]) -> Terms:
        """One turn of every player over ``batch_size`` samples; a non-finite turn changes nothing and is counted.

        The turn is taken or not on the device; the host waits for nothing here, and learns of it at the next log line.
        """
        train = self.recipe.train
        held = [next(micros) for _ in range(train.batch_size // train.micro_batch)]
        total: Terms = {}
        turns = [self._turn(seat, held, total) for seat in self.seats if self.step >= seat.player.start_step]
        if turns:
            self._bad.add(torch.stack(turns).amax())
        self.step += 1
        return total

    def save(self) -> Path:
        """Write a checkpoint after the current step."""
        path = self.run.checkpoint_path(self.step)
        self._judge()
        if distributed.is_main():
            states = {f"{g}.{n}": v for g, updater in self.updaters.items() for n, v in updater.state().items()}
            tensors = {
                "model": self.stage.state(),
                **{group: merged([e.values for e in averages]) for group, averages in self._averages().items()},
                "optimizer": states,
                "rng": {"torch": torch.get_rng_state()},
            }
            checkpoint.save(path, tensors, {"step": self.step, "bad_steps": self.bad_steps, "stage": self.recipe.stage})
            self.run.prune(self.recipe.train.keep_last)
        distributed.barrier()
        return path

    def _seat(self, player: Player) -> Seat:
        train, start = self.recipe.train, player.start_step
        decays = train.extra_ema
        updaters = {
            player.prefixed(name): Updater(
                group.parameters, group.optim, train.steps, start, decays if group.is_averaged else None
            )
            for name, group in player.groups.items()
        }
        return Seat(player, updaters)

    def _batches(self) -> Iterator[Any]:
        train = self.recipe.train
        return self.stage.batches(self.step * train.batch_size, train.micro_batch)

    def _micro(self, batch: Any) -> Micro:
        return Micro(batch, self.stage.prepare(batch), Draws(self.recipe.seed, batch.positions, self.device))

    def _turn(self, seat: Seat, micros: Sequence[Micro], total: Terms) -> Tensor:
        """One player's turn; 1.0 where its loss and gradients were not finite, on every process alike, else 0.0."""
        for updater in seat.updaters.values():
            updater.zero_grad()
        terms = seat.player.descend(micros, self.step)
        distributed.average_gradients(seat.parameters)
        norms = {name: updater.clip() for name, updater in seat.updaters.items()}
        finite = torch.stack([torch.isfinite(value) for value in (terms["loss"], *norms.values())]).all().float()
        distributed.average([finite])
        total.update({seat.player.prefixed(name): value for name, value in terms.items()})
        total.update({_logged(name, "grad_norm"): norm for name, norm in norms.items()})
        found_inf = (finite < 1).float()
        for updater in seat.updaters.values():
            updater.update(self.step, found_inf)
        return found_inf

    def _judge(self) -> None:
        """Stop the run when too many steps in a row were not finite; called where the host waits anyway."""
        longest = self._bad.read()
        if longest >= self.recipe.train.max_bad_steps:
            raise UserError(
                f"training stopped at step {self.step}: {longest} non-finite steps in a row; "
                "lower optim.lr or set train.precision to fp32, then resume"
            )

    def _bookkeeping(self, meter: Meter, progress: Progress, task: Any) -> None:
        train = self.recipe.train
        is_last = self.step == train.steps
        if self.step % train.log_every_steps == 0 or is_last:
            values = meter.read()
            self._judge()
            self._write_log({**values, **self._rates(), **self._counts(), "bad_steps": self.bad_steps})
            progress.update(task, note=f"loss {values.get('loss', 0):.4f}  {values['images_per_second']:.0f} images/s")
        if self.step % train.save_every_steps == 0 or is_last:
            self.save()
            if distributed.is_main():
                self.run.plot()
        if self.step % train.sample_every_steps == 0 or is_last:
            self._look()
            meter.pause()

    def _rates(self) -> dict[str, float]:
        return {_logged(name, "lr"): updater.lr(max(self.step - 1, 0)) for name, updater in self.updaters.items()}

    def _counts(self) -> dict[str, float]:
        counts = self.stage.counts(self.step * self.recipe.train.batch_size)
        return {f"samples/{domain}": count for domain, count in counts.items()}

    def _write_log(self, values: dict[str, float]) -> None:
        if distributed.is_main():
            self.run.log(self.step, values)

    def _look(self) -> None:
        """Held-out metrics and a sheet of pictures, with the averaged weights; by the first process."""
        if distributed.is_main():
            with self._averaged():
                self.run.log(self.step, {f"eval/{k}": v for k, v in self.stage.evaluate().items()})
                self.run.save_image(f"step_{self.step:08d}", self.stage.sheet())
        distributed.barrier()

    def _finish(self) -> Path | None:
        """The artefact, written by the first process."""
        artefact = None
        if distributed.is_main():
            for group in self._averages():
                path = self.run.path if group == EMA_GROUP else self.run.path / group
                with self._averaged(group):
                    exported = self.stage.export(path)
                artefact = artefact or exported
        distributed.barrier()
        return artefact

    def _averages(self) -> dict[str, list[EMA]]:
        """The averages of every updater by decay, under the name of their file; the one of the recipe first."""
        updaters = self.updaters.values()
        extra = {f"{EMA_GROUP}_{d}": [u.extra[d] for u in updaters if u.extra] for d in self.recipe.train.extra_ema}
        return {EMA_GROUP: [updater.ema for updater in updaters], **extra}

    @contextlib.contextmanager
    def _averaged(self, group: str = EMA_GROUP) -> Iterator[None]:
        """Averaged weights in place of the live ones."""
        averages = self._averages()[group]
        for average in averages:
            average.swap()
        try:
            with torch.no_grad(), self.stage.autocast():
                yield
        finally:
            for average in averages:
                average.swap()

    def _resume(self) -> None:
        path = self.run.latest_checkpoint()
        if path is None:
            raise UserError(
                f"run directory {str(self.run.path)!r}: no checkpoint to resume from; start without --resume"
            )
        saved = checkpoint.load(path, self.device)
        if saved.state["stage"] != self.recipe.stage:
            raise UserError(f"checkpoint {str(path)!r} is of stage {saved.state['stage']!r}, not {self.recipe.stage!r}")
        self.stage.load_state(saved.tensors["model"])
        for group, averages in self._averages().items():
            if group not in saved.tensors:
                raise UserError(f"checkpoint {str(path)!r}: holds no {group}; resume with the train.extra_ema it had")
            for average in averages:
                average.load(saved.tensors[group])
        for name, updater in self.updaters.items():
            own = {k: v for k, v in saved.tensors["optimizer"].items() if k.startswith(f"{name}.")}
            updater.load_state({k.removeprefix(f"{name}."): v for k, v in own.items()})
        torch.set_rng_state(saved.tensors["rng"]["torch"].cpu())
        self.step = saved.state["step"]
        self._bad.now = saved.state["bad_steps"]
        self.run.rewind(self.step)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM finish the step, save and leave; a second Ctrl-C interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def ask_to_stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._stop.set()
            signal.signal(signal.SIGINT, signal.default_int_handler)

        for number in before:
            signal.signal(number, ask_to_stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def merged(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Several mappings as one."""
    return {name: value for part in parts for name, value in part.items()}


def _logged(group: str, quantity: str) -> str:
    """``lr`` of the main group; ``discriminator/lr``, ``language_model/lr`` of others."""
    owner, _, name = group.rpartition("/")
    return "/".join(part for part in (owner, "" if name == "model" else name, quantity) if part)


def progress_bar() -> Progress:
    """The bar of a training run: steps, speed, time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        disable=not distributed.is_main(),
    )
