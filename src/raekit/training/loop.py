"""The only training loop: accumulate, guard, clip, step, average, log, sample, save, resume.

In: a :class:`~raekit.training.stage.Stage` and its run directory. Out: checkpoints, a log, sheets of pictures, and the
exported artefact. Everything random belongs to a sample's position in the data stream, so that a run killed at any
moment and resumed from its last checkpoint ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from raekit import checkpoint
from raekit.device import autocast, pick_device
from raekit.errors import UserError
from raekit.training import STAGES
from raekit.training.draws import Draws
from raekit.training.optim import EMA, build_optimizer, load_optimizer_tensors, lr_factor, optimizer_tensors
from raekit.training.run import RunDirectory
from raekit.training.stage import Recipe, Stage


@dataclass
class Meter:
    """Sums of the terms since the last log line, and the clock."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    start: float = field(default_factory=time.perf_counter)

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Count one optimiser step."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value
        self.steps += 1
        self.images += images

    def read(self) -> dict[str, float]:
        """Mean of each term, and images per second; starts anew."""
        seconds = time.perf_counter() - self.start
        values = {name: float(value) / max(self.steps, 1) for name, value in self.sums.items()}
        values["images_per_second"] = self.images / seconds
        self.sums, self.steps, self.images, self.start = {}, 0, 0, time.perf_counter()
        return values


class Trainer:
    """One run of one stage.

    Args:
        recipe: the resolved recipe.
        is_resumed: continue from the newest complete checkpoint of ``recipe.run``.
    """

    def __init__(self, recipe: Recipe, is_resumed: bool = False) -> None:
        self.recipe = recipe
        self.device = pick_device(recipe.train.device)
        self.run = RunDirectory(recipe.run, recipe, is_resumed, recipe.train.tensorboard)
        self.stage: Stage = STAGES[recipe.stage](recipe, self.device)
        self.parameters = self.stage.parameters()
        self.optimizer = build_optimizer(self.parameters.values(), recipe.optim)
        self.ema = EMA(self.parameters, recipe.optim.ema)
        self.step = 0
        self.bad_steps = 0
        self._stop = threading.Event()
        if is_resumed:
            self._resume()

    def train(self) -> Path | None:
        """Run to the end, or until a signal asks to stop.

        Returns:
            The exported artefact, or None when the run was stopped early (a checkpoint was saved).
        """
        steps = self.recipe.train.steps
        with self._signals(), progress_bar() as progress:
            task = progress.add_task(self.recipe.stage, total=steps, completed=self.step, note="")
            meter = Meter()
            batches = self._batches()
            while self.step < steps and not self._stop.is_set():
                meter.add(self.train_step(batches), self.recipe.train.batch_size)
                self._bookkeeping(meter, progress, task)
                progress.update(task, completed=self.step)
        if self.step < steps:
            self.save()
            return None
        return self._finish()

    def train_step(self, batches: Iterator[Any]) -> dict[str, Tensor]:
        """One optimiser step over ``batch_size`` samples; a non-finite one changes nothing and is counted."""
        train = self.recipe.train
        parts = train.batch_size // train.micro_batch
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for _ in range(parts):
            batch = next(batches)
            draws = Draws(self.recipe.seed, batch.positions, self.device)
            with autocast(train.precision, self.device):
                terms = self.stage.loss(batch, draws)
            (terms["loss"] / parts).backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                total[name] = total.get(name, torch.zeros((), device=self.device)) + value.detach().float() / parts
        total["grad_norm"] = self._clip()
        self._apply(bool(torch.isfinite(total["loss"]) & torch.isfinite(total["grad_norm"])))
        self.step += 1
        return total

    def save(self) -> Path:
        """Write a checkpoint after the current step."""
        path = self.run.checkpoint_path(self.step)
        tensors = {
            "model": self.stage.state(),
            "ema": self.ema.values,
            "optimizer": optimizer_tensors(self.optimizer),
            "rng": {"torch": torch.get_rng_state()},
        }
        checkpoint.save(path, tensors, {"step": self.step, "bad_steps": self.bad_steps, "stage": self.recipe.stage})
        self.run.prune(self.recipe.train.keep_last)
        return path

    def _batches(self) -> Iterator[Any]:
        train = self.recipe.train
        return self.stage.batches(self.step * train.batch_size, train.micro_batch)

    def _clip(self) -> Tensor:
        limit = self.recipe.optim.clip_norm
        grads = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(list(self.parameters.values()), limit, norm)
        return norm

    def _apply(self, is_finite: bool) -> None:
        optim = self.recipe.optim
        for group in self.optimizer.param_groups:
            group["lr"] = optim.lr * lr_factor(self.step, optim.schedule, self.recipe.train.steps)
        if is_finite:
            self.bad_steps = 0
            self.optimizer.step()
            self.ema.update()
            return
        self.bad_steps += 1
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
            self.run.log(self.step, {**values, "lr": self.optimizer.param_groups[0]["lr"], "bad_steps": self.bad_steps})
            progress.update(task, note=f"loss {values.get('loss', 0):.4f}  {values['images_per_second']:.0f} images/s")
        if self.step % train.save_every_steps == 0 or is_last:
            self.save()
            self.run.plot()
        if self.step % train.sample_every_steps == 0 or is_last:
            self._look()
            meter.start = time.perf_counter()

    def _look(self) -> None:
        """Held-out metrics and a sheet of pictures, with the averaged weights."""
        with self._averaged():
            self.run.log(self.step, {f"eval/{k}": v for k, v in self.stage.evaluate().items()})
            self.run.save_image(f"step_{self.step:08d}", self.stage.sheet())

    def _finish(self) -> Path:
        with self._averaged():
            return self.stage.export(self.run.path)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        self.ema.swap()
        try:
            with torch.no_grad(), autocast(self.recipe.train.precision, self.device):
                yield
        finally:
            self.ema.swap()

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
        self.ema.load(saved.tensors["ema"])
        load_optimizer_tensors(self.optimizer, saved.tensors["optimizer"])
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


def progress_bar() -> Progress:
    """The bar of a training run: steps, speed, time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
