"""The only training loop: accumulate, guard, clip, step, average, log, sample, save, resume.

In: a :class:`~raekit.training.stage.Stage` and its run directory. Out: checkpoints, a log, sheets of pictures, and the
exported artefact. Everything random belongs to a sample's position in the data stream, so that a run killed at any
moment and resumed from its last checkpoint ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor, nn

from raekit import distributed
from raekit.device import pick_device
from raekit.encoders.ahead import encode_ahead
from raekit.errors import UserError
from raekit.training import STAGES
from raekit.training.blocks import wrap
from raekit.training.draws import Draws
from raekit.training.guarding.bad_steps import Row
from raekit.training.guarding.guards import BadRow, Guards
from raekit.training.guarding.stopped import REPORT, kinds, past, write_report
from raekit.training.guarding.watchdog import Watchdog
from raekit.training.meter import Meter
from raekit.training.optim import Updater
from raekit.training.parallel.agreement import check_agreement
from raekit.training.parallel.placement import layout_of, place
from raekit.training.parallel.reducer import Reducer
from raekit.training.planning.machines import RESERVE
from raekit.training.planning.memory import asked_checkpointing, fitting_checkpointing
from raekit.training.planning.work import Checkpointing
from raekit.training.saving.run import RunDirectory
from raekit.training.saving.signals import StopRequest
from raekit.training.saving.snapshots import EMA_GROUP, Progress, Snapshots
from raekit.training.stage import Micro, Player, Recipe, Stage, Terms
from raekit.training.supply import OutOfData, Supply

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """A player of the stage, the updaters of its groups by the name under which their state is saved, and what averages
    its gradients over the processes."""

    player: Player
    updaters: dict[str, Updater]
    reducer: Reducer


class Trainer:
    """One run of one stage.

    Args:
        recipe: the resolved recipe.
        is_resumed: continue from the newest complete checkpoint of ``recipe.run``.
    """

    def __init__(self, recipe: Recipe, is_resumed: bool = False) -> None:
        self.recipe, train = recipe, recipe.train
        torch.set_float32_matmul_precision(train.float32_matmul_precision)
        self.watchdog = Watchdog(train.stuck_after_seconds, recipe.run, train.compile)
        with self.watchdog, contextlib.ExitStack() as undo:
            with self.watchdog.phase("joining the other processes and opening the run directory"):
                self.device = distributed.join(pick_device(train.device))
                check_agreement(recipe, is_resumed)
                field = "batch_size" if train.micro_batch_size is None else "micro_batch_size"
                distributed.share_of(train.micro_batch, distributed.world(), f"train.{field}")
                self.run = RunDirectory(recipe.run, recipe, is_resumed, train.tensorboard)
                undo.callback(self.run.lock.release)
            with self.watchdog.phase("reading weights and opening the data"):
                self._build()
            if is_resumed:
                with self.watchdog.phase("reading a checkpoint"):
                    self._resume()
            undo.pop_all()

    def _build(self) -> None:
        recipe = self.recipe
        self.stage: Stage = STAGES[recipe.stage](recipe, self.device)
        wrap(self.stage.blocks(), recipe.train.compile, pick_checkpointing(self.stage))
        self.placement = place(self.stage)
        self.seats = [self._seat(player) for player in self.stage.players()]
        self.updaters = {name: updater for seat in self.seats for name, updater in seat.updaters.items()}
        self.progress, self.supply = Progress(0, 0), Supply[Any](iter(()))
        self.guards = Guards(recipe.train.guards, recipe.train.max_bad_steps, self.updaters, self.device)
        self.snapshots = Snapshots(self.run, self.stage, self.updaters, [self.guards])

    def _resume(self) -> None:
        self.progress = self.snapshots.resume()
        self._recall()
        self._check_not_past()
        self.run.peers.by_first(self.run.write_papers)

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.progress.step

    @property
    def bad_steps(self) -> int:
        """Steps in a row, up to now, that were not taken; asks the device."""
        return self.guards.bad_steps

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, as ``module.name -> parameter``."""
        return {name: p for updater in self.updaters.values() for name, p in updater.parameters.items()}

    def train(self) -> Path | None:
        """Run to the end, or until a signal asks to stop.

        Returns:
            The exported artefact, or None when the run was stopped early (a checkpoint was saved).
        """
        train, steps = self.recipe.train, self.recipe.train.steps
        if (finished := self.run.finished(steps)) is not None and self.step == steps:
            return finished
        stopping = StopRequest(self.run.peers, train.stop_seconds)
        with self.watchdog, self.run, stopping as stop, progress_bar() as progress:
            task = progress.add_task(self.recipe.stage, total=steps, completed=self.step, note="")
            while self.step < steps and not stop.asked():
                try:
                    self._stretch(stop, progress, task)
                except BadRow as bad:
                    with self.watchdog.phase("going back to a checkpoint"):
                        self._go_back(bad.row)
                except OutOfData:
                    if self.step == 0 or distributed.world() > 1:  # nothing to save; others are in the midst of a step
                        raise
                    break
            with self.watchdog.phase("saving a checkpoint"):
                self.snapshots.settle(self.progress)
            self.run.peers.by_each(self._tell_failure)
            with self.watchdog.phase("exporting"):
                return self._finish() if self.step == steps else None

    def _stretch(self, stop: StopRequest, progress: Bar, task: Any) -> None:
        """Steps from the current position of the data stream, to the end or until somebody asks to stop."""
        meter = Meter()
        # Of several processes each votes after a step, and stops after the next: it needs the data of two more.
        num_micros, is_alone = self.recipe.train.batch_size // self.recipe.train.micro_batch, distributed.world() == 1
        self.supply = Supply(meter.waiting(self._batches(), "read_wait"), 0 if is_alone else 2 * num_micros)
        micros = self.watchdog.watching(meter.waiting(self.ready(self.supply)))
        with contextlib.closing(micros):
            while self.step < self.recipe.train.steps and not stop.asked(self.supply.failure is not None):
                meter.add(self.train_step(micros), self.recipe.train.batch_size)
                self._bookkeeping(meter, progress, task)
                progress.update(task, completed=self.step)

    def ready(self, batches: Iterator[Any]) -> Iterator[Micro]:
        """Micro-batches ready for the players; with ``train.encode_ahead`` always one ahead of them."""
        ahead = self.recipe.train.encode_ahead
        # Networks that run on all processes together would meet in another order from a second thread.
        if ahead is False or self.stage.are_frozen_cut or (ahead == "auto" and self.device.type != "cuda"):
            return map(self.micro, batches)
        return (micro for _, micro in encode_ahead(batches, self.micro, self.device))

    def micro(self, batch: Any) -> Micro:
        """A micro-batch, as the stage gives it, ready for the players."""
        return Micro(batch, self.stage.prepare(batch), Draws(self.recipe.seed, batch.positions, self.device))

    def train_step(self, micros: Iterator[Micro]) -> Terms:
        """One turn of every player over ``batch_size`` samples; a bad turn changes nothing and is counted.

        The turn is taken or not on the device; the host waits for nothing here, and learns of it at the next log line.
        """
        train = self.recipe.train
        held = [next(micros) for _ in range(train.batch_size // train.micro_batch)]
        total: Terms = {}
        turns = [self._turn(seat, held, total) for seat in self.seats if self.step >= seat.player.start_step]
        if turns:
            self.guards.count(torch.stack(turns).amax(), self.step)
        self.progress = Progress(self.step + 1, self.progress.position + train.batch_size)
        return total

    def save(self) -> Path:
        """Write a checkpoint after the current step."""
        return self.snapshots.save(self.progress)

    def _recall(self) -> None:
        """Go on at the lower rates of a run that went back, also where no checkpoint was written since."""
        step = self.run.peers.by_first(lambda: self.run.went_back(self.step))
        if step is not None and self.guards.went_back_from is None:
            self.guards.go_back(step)

    def _check_not_past(self) -> None:
        if self.step > (steps := self.recipe.train.steps):
            raise UserError(
                f"train.steps: {steps}, but run {str(self.run.path)!r} is at step {self.step} already; raise "
                "train.steps, or name another directory with --run"
            )

    def _seat(self, player: Player) -> Seat:
        train, start = self.recipe.train, player.start_step
        decays = train.extra_ema
        updaters = {
            player.prefixed(name): Updater(
                group.parameters, group.optim, train.steps, start, decays if group.is_averaged else None
            )
            for name, group in player.groups.items()
        }
        moved = (p for updater in updaters.values() for p in updater.parameters.values())
        return Seat(player, updaters, self.placement.reducer(moved))

    def _tell_failure(self) -> None:
        if self.supply.failure is not None and self.step < self.recipe.train.steps:
            raise UserError(f"{self.supply.failure}; step {self.step} is saved, --resume goes on from it")

    def _batches(self) -> Iterator[Any]:
        train = self.recipe.train
        return self.stage.batches(self.progress.position, train.micro_batch)

    def _turn(self, seat: Seat, micros: Sequence[Micro], total: Terms) -> Tensor:
        """One player's turn; 1.0 where the guards passed over it, on every process alike, else 0.0."""
        for updater in seat.updaters.values():
            updater.zero_grad()
        with self.placement.turn(seat.reducer):
            terms = seat.player.descend(micros, self.step)
        norms = {name: updater.clip() for name, updater in seat.updaters.items()}
        found_inf = self.guards.judge(seat.player.name, self.step, terms, norms)
        total.update({seat.player.prefixed(name): value for name, value in terms.items()})
        total.update({_logged(name, "grad_norm"): norm for name, norm in norms.items()})
        for updater in seat.updaters.values():
            updater.update(self.step, found_inf)
        return found_inf

    def _go_back(self, row: Row) -> None:
        """Take up the last checkpoint from before a row of bad steps, at a lower learning rate; if that is not allowed,
        was done before or cannot be, stop and leave a report."""
        if not self.guards.may_go_back:
            self._give_up(row, past(self.guards))
        step, found = self.step, kinds(self.guards, row)

        def note(target: Progress) -> None:
            """Before newer checkpoints go: a run killed in between still finds those, or that it went back."""
            self.run.peers.by_first(lambda: self.run.note_going_back(step, target.step))

        try:
            self.progress = self.snapshots.resume(row.first_step, note)
        except UserError as error:
            self._give_up(row, f"It could not go back to a checkpoint: {error}.")
        self.guards.go_back(step)
        self._write_log({"went_back_from": step, **self._rates()})
        _log.warning("step %d: %d bad steps in a row (%s); back to step %d", step, row.length, found, self.step)

    def _give_up(self, row: Row, why: str) -> NoReturn:
        size = self.recipe.train.batch_size
        first = self.progress.position - (self.step - row.first_step) * size
        samples = range(first, first + size)
        self.run.peers.by_first(lambda: write_report(self.run.path, self.guards, row, samples, why))
        raise UserError(
            f"training stopped at step {self.step}: {row.length} bad steps in a row ({kinds(self.guards, row)}); "
            f"lower optim.lr or see what {str(self.run.path / REPORT)!r} suggests, then resume"
        )

    def _bookkeeping(self, meter: Meter, progress: Bar, task: Any) -> None:
        train = self.recipe.train
        is_last = self.step == train.steps
        if self.step % train.log_every_steps == 0 or self.step % train.save_every_steps == 0 or is_last:
            self.guards.check()
        if self.step % train.log_every_steps == 0 or is_last:
            values = meter.read()
            self._write_log({**values, **self._rates(), **self._counts(), **self.guards.counts})
            progress.update(task, note=f"loss {values.get('loss', 0):.4f}  {values['images_per_second']:.0f} images/s")
        if self.step % train.save_every_steps == 0 or is_last:
            with self.watchdog.phase("saving a checkpoint"):
                self.save()
                if distributed.is_main():
                    self.run.plot()
        if self.step % train.sample_every_steps == 0 or is_last:
            with self.watchdog.phase("evaluating and drawing"):
                self._look()
            meter.pause()

    def _rates(self) -> dict[str, float]:
        return {_logged(name, "lr"): updater.lr(max(self.step - 1, 0)) for name, updater in self.updaters.items()}

    def _counts(self) -> dict[str, float]:
        counts = self.stage.counts(self.progress.position)
        values: dict[str, float] = {f"samples/{domain}": count for domain, count in counts.items()}
        return values | {f"bad/{domain}": count for domain, count in self.stage.quarantine.counts().items()}

    def _write_log(self, values: dict[str, float]) -> None:
        if distributed.is_main():
            self.run.log(self.step, values)

    def _look(self) -> None:
        """Held-out metrics, by all processes, and a sheet of pictures, by the first; with the averaged weights.

        A network that is cut runs on all processes at once, or not at all: then they all draw the sheet.
        """
        with self._averaged():
            values = self.stage.evaluate()
            sheet = self.stage.sheet() if distributed.is_main() or self.placement.is_sharded else None
        if distributed.is_main() and sheet is not None:
            self.run.log(self.step, {f"eval/{k}": v for k, v in values.items()})
            self.run.save_image(f"step_{self.step:08d}", sheet)
        distributed.barrier()

    def _finish(self) -> Path | None:
        """The artefact, written by the first process."""
        artefact = None
        for group in self.snapshots.averages():
            path = self.run.path if group == EMA_GROUP else self.run.path / group
            with self._averaged(group):
                if distributed.is_main() or self.placement.is_sharded:
                    self.stage.complete()
                with self.placement.gathered(self.stage.modules().values()):
                    exported = self.stage.export(path) if distributed.is_main() else None
            artefact = artefact or exported
        if artefact is not None:
            self.run.finish(self.step, artefact)
        distributed.barrier()
        return artefact

    @contextlib.contextmanager
    def _averaged(self, group: str = EMA_GROUP) -> Iterator[None]:
        """Averaged weights in place of the live ones."""
        averages = self.snapshots.averages()[group]
        for average in averages:
            average.swap()
        try:
            with torch.no_grad(), self.stage.autocast():
                yield
        finally:
            for average in averages:
                average.swap()


def pick_checkpointing(stage: Stage) -> Checkpointing:
    """Which blocks of a stage keep only their input: as its recipe says, or what fits into the GPU by estimate.

    Counted are the networks that the stage tells of; one that tells of none keeps everything, and so does a CPU. Where
    they cannot be counted, all blocks are run again: no estimate stops a run.
    """
    train = stage.config.train
    asked = asked_checkpointing(train)
    if asked is not None or stage.device.type != "cuda":
        return asked or "none"
    try:
        return _fitting(stage) or "full"
    except NotCounted as error:
        _log.warning("checkpoint_activations: memory cannot be estimated (%s); taking full, name another mode", error)
        return "full"


class NotCounted(Exception):
    """A stage holds a network that cannot be counted by its shapes."""


def _fitting(stage: Stage) -> Checkpointing | None:
    """By estimate; None where nothing fits.

    Raises:
        NotCounted: there is none.
    """
    trained = sum(parameter.numel() for parameter in stage.parameters().values())
    room = torch.cuda.get_device_properties(stage.device).total_memory * RESERVE
    layout = layout_of(trained, stage.config.train.parallel)
    try:
        return fitting_checkpointing(stage.parts(stage.config), stage.config.train, layout, room)
    except Exception as error:  # networks of others, and their settings, raise almost anything
        raise NotCounted((str(error).splitlines() or [type(error).__name__])[0]) from error


def _logged(group: str, quantity: str) -> str:
    """``lr`` of the main group; ``discriminator/lr``, ``language_model/lr`` of others."""
    owner, _, name = group.rpartition("/")
    return "/".join(part for part in (owner, "" if name == "model" else name, quantity) if part)


def progress_bar() -> Bar:
    """The bar of a training run: steps, speed, time left."""
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        disable=not distributed.is_main(),
    )
