"""The only training loop: accumulate, guard, clip, step, average, log, sample, save, resume.

In: a :class:`~raekit.training.stage.Stage` and its run directory. Out: checkpoints, a log, sheets of pictures, and the
exported artefact. Everything random belongs to a sample's position in the data stream, so that a run killed at any
moment and resumed from its last checkpoint ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from raekit import checkpoint, distributed
from raekit.device import pick_device
from raekit.encoders.ahead import encode_ahead
from raekit.errors import UserError
from raekit.training import STAGES
from raekit.training.draws import Draws
from raekit.training.meter import Meter
from raekit.training.optim import Updater
from raekit.training.run import RunDirectory
from raekit.training.stage import Micro, Player, Recipe, Stage, Terms


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
        self.seats = [self._seat(player) for player in self.stage.players()]
        self.updaters = {name: updater for seat in self.seats for name, updater in seat.updaters.items()}
        self.step = 0
        self.bad_steps = 0
        self._stop = threading.Event()
        if is_resumed:
            self._resume()

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
        """One turn of every player over ``batch_size`` samples; a non-finite turn changes nothing and is counted."""
        train = self.recipe.train
        held = [next(micros) for _ in range(train.batch_size // train.micro_batch)]
        total: Terms = {}
        is_finite = True
        for seat in self.seats:
            if self.step >= seat.player.start_step:
                is_finite &= self._turn(seat, held, total)
        self._judge(is_finite)
        self.step += 1
        return total

    def save(self) -> Path:
        """Write a checkpoint after the current step."""
        path = self.run.checkpoint_path(self.step)
        if distributed.is_main():
            averages = {name: value for updater in self.updaters.values() for name, value in updater.ema.values.items()}
            states = {f"{g}.{n}": v for g, updater in self.updaters.items() for n, v in updater.state().items()}
            tensors = {
                "model": self.stage.state(),
                "ema": averages,
                "optimizer": states,
                "rng": {"torch": torch.get_rng_state()},
            }
            checkpoint.save(path, tensors, {"step": self.step, "bad_steps": self.bad_steps, "stage": self.recipe.stage})
            self.run.prune(self.recipe.train.keep_last)
        distributed.barrier()
        return path

    def _seat(self, player: Player) -> Seat:
        steps = self.recipe.train.steps
        updaters = {
            player.prefixed(name): Updater(group.parameters, group.optim, steps, player.start_step, group.is_averaged)
            for name, group in player.groups.items()
        }
        return Seat(player, updaters)

    def _batches(self) -> Iterator[Any]:
        train = self.recipe.train
        return self.stage.batches(self.step * train.batch_size, train.micro_batch)

    def _micro(self, batch: Any) -> Micro:
        return Micro(batch, self.stage.prepare(batch), Draws(self.recipe.seed, batch.positions, self.device))

    def _turn(self, seat: Seat, micros: Sequence[Micro], total: Terms) -> bool:
        """One player's turn; whether its loss and gradients were finite, on every process alike."""
        for updater in seat.updaters.values():
            updater.zero_grad()
        terms = seat.player.descend(micros, self.step)
        distributed.average_gradients(seat.parameters)
        norms = {name: updater.clip() for name, updater in seat.updaters.items()}
        finite = torch.stack([torch.isfinite(value) for value in (terms["loss"], *norms.values())]).all().float()
        distributed.average([finite])
        total.update({seat.player.prefixed(name): value for name, value in terms.items()})
        total.update({_logged(name, "grad_norm"): norm for name, norm in norms.items()})
        if finite < 1:
            return False
        for updater in seat.updaters.values():
            updater.update(self.step)
        return True

    def _judge(self, is_finite: bool) -> None:
        """Count the steps in a row that were not finite, and stop the run when there are too many."""
        self.bad_steps = 0 if is_finite else self.bad_steps + 1
        if self.bad_steps >= self.recipe.train.max_bad_steps:
            raise UserError(
                f"training stopped at step {self.step}: {self.bad_steps} non-finite steps in a row; "
                "lower optim.lr or set train.precision to fp32, then resume"
            )

    def _bookkeeping(self, meter: Meter, progress: Progress, task: Any) -> None:
        train = self.recipe.train
        is_last = self.step == train.steps
        if self.step % train.log_every_steps == 0 or is_last:
            values = meter.read()
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
            with self._averaged():
                artefact = self.stage.export(self.run.path)
        distributed.barrier()
        return artefact

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        self._swap()
        try:
            with torch.no_grad(), self.stage.autocast():
                yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for updater in self.updaters.values():
            updater.ema.swap()

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
        for name, updater in self.updaters.items():
            updater.ema.load(saved.tensors["ema"])
            own = {k: v for k, v in saved.tensors["optimizer"].items() if k.startswith(f"{name}.")}
            updater.load_state({k.removeprefix(f"{name}."): v for k, v in own.items()})
        torch.set_rng_state(saved.tensors["rng"]["torch"].cpu())
        self.step, self.bad_steps = saved.state["step"], saved.state["bad_steps"]
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
