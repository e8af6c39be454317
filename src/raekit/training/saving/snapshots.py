"""What a run saves and how it is taken up again.

In: the stage, the updaters with their averages, and counters of the loop. Out: checkpoints below the run directory, and
a run that goes on from one as if nothing had happened, on as many processes as there now are. Schedules are not saved:
they follow from the step.

A checkpoint holds: weights and buffers, every average, the optimisers' state, the random generators of every process,
step, position in the data stream, and the counters (``checkpoint_files.py`` says how it lies on disk).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from raekit.device import one_thread
from raekit.errors import UserError
from raekit.files import gigabytes, require_space
from raekit.training.ema import EMA
from raekit.training.optim import Updater
from raekit.training.parallel.peers import Peers
from raekit.training.saving import checkpoint_files
from raekit.training.saving.changes import changes, check_resumable
from raekit.training.saving.rng import rng_state, set_rng_state, spread
from raekit.training.saving.run import RunDirectory, step_of
from raekit.training.stage import Stage

EMA_GROUP = "ema"
"""Group of a checkpoint that holds the averaged weights; those of ``train.extra_ema`` have their decay after it."""
OTHER_DATA = (
    "since checkpoint %s the data have changed, so samples may come twice or never in this epoch; for an exact "
    "continuation resume with the data it was written with"
)
OPTIMIZER_GROUP = "optimizer"
RNG_GROUP = "rng"
MOMENTS = 2
"""Tensors of a weight's size that an optimiser keeps, for the room that a run's first checkpoint will take."""

_log = logging.getLogger(__name__)


class Counter(Protocol):
    """Plain numbers of the loop that a resumed run goes on with."""

    def state(self) -> dict[str, Any]:
        """As JSON."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave; a name that is not there keeps its value."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps taken.
        position: samples of the data stream used.
    """

    step: int
    position: int


class Snapshots:
    """The checkpoints of one run. All processes make one together and call it alike.

    Args:
        run: where they lie.
        stage: its modules, and the settings of the recipe.
        updaters: optimisers and averages, by the name under which their state is saved.
        counters: whatever else is counted.
    """

    def __init__(
        self, run: RunDirectory, stage: Stage, updaters: Mapping[str, Updater], counters: Sequence[Counter] = ()
    ) -> None:
        self.run, self.stage, self.updaters, self.counters = run, stage, updaters, counters
        self.config = stage.config
        self._peers = Peers.meet()
        self._saved: int | None = None
        self._writer = Background(stage.device) if self._is_in_background else None
        self._require_space_for_the_first()

    def averages(self) -> dict[str, list[EMA]]:
        """The averages of every updater by decay, under the name of their group; the one of the recipe first."""
        updaters = self.updaters.values()
        extra = {f"{EMA_GROUP}_{d}": [u.extra[d] for u in updaters if u.extra] for d in self.config.train.extra_ema}
        return {EMA_GROUP: [updater.ema for updater in updaters], **extra}

    def save(self, progress: Progress) -> Path:
        """Write a checkpoint after the current step, or start to (``train.save_in_background``).

        Where the one before could not be written in the background, this one is written at once, lest the run end
        without either.

        Raises:
            UserError: it cannot be written.
        """
        has_failed = self._has_failed()
        if self._saved != progress.step or has_failed:
            self._save(progress, self._writer if not has_failed else None)
        return self.run.checkpoint_path(progress.step)

    def settle(self, progress: Progress) -> None:
        """:meth:`save`, and wait until it lies on disk.

        Raises:
            UserError: it cannot be written.
        """
        self.save(progress)
        if self._has_failed():
            self._save(progress, None)

    def _save(self, progress: Progress, writer: Background | None) -> None:
        self._saved = None
        path = self.run.checkpoint_path(progress.step)
        groups = {**self._state(), OPTIMIZER_GROUP: self._optimizer_state()}
        needed = checkpoint_files.size_in_bytes(value for values in groups.values() for value in values.values())
        self._peers.by_first(lambda: require_space(self.run.checkpoints, needed, f"saving step {progress.step}"))
        tensors = checkpoint_files.held_here(groups, self._peers) | self._own_rng()
        counted = merged([counter.state() for counter in self.counters])
        place = {"stage": self.config.stage, "processes": self._peers.world}
        source = {"recipe": self._recipe(), "data": self._data}
        state = {**counted, **place, **source, "step": progress.step, "position": progress.position}
        if writer is None:
            self._write(path, tensors, state)
        else:
            writer.start(lambda staged: self._write(path, staged, state), tensors)
        self._saved = progress.step

    def _has_failed(self) -> bool:
        """Whether the checkpoint that was being written in the background could not be; waits for it."""
        try:
            self.wait()
        except UserError as error:
            _log.warning("writing in the background failed (%s); the present state is written at once", error)
            return True
        return False

    def wait(self) -> None:
        """Until the checkpoint that is being written in the background lies on disk.

        Raises:
            UserError: it could not be written.
        """
        if self._writer is not None:
            self._writer.wait()

    def resume(self, before: int | None = None, then: Callable[[Progress], None] = lambda _: None) -> Progress:
        """Go on from the newest valid checkpoint; damaged ones are named, set aside and skipped.

        Args:
            before: only from one of fewer steps; valid ones that are newer than the one taken are removed, since their
                steps will be taken again.
            then: called with the step gone on from, once all is loaded and before anything newer is removed.

        Raises:
            UserError: there is none, or it is of another recipe.
        """
        self.wait()
        path = self._newest_valid(before)
        state = checkpoint_files.read_state(path)
        if state["stage"] != self.config.stage:
            raise UserError(f"checkpoint {str(path)!r} is of stage {state['stage']!r}, not {self.config.stage!r}")
        self._check_recipe(state.get("recipe"), path)
        if self._peers.rank == 0 and state.get("data") not in (None, self._data):
            _log.warning(OTHER_DATA, path.name)
        self._read(path)
        for counter in self.counters:
            counter.load_state(state)
        progress = Progress(state["step"], state["position"])
        self._saved = progress.step
        then(progress)
        self.run.peers.by_first(lambda: self._drop_after(progress.step))
        return progress

    @property
    def _is_in_background(self) -> bool:
        wish = self.config.train.save_in_background
        return self.stage.device.type == "cuda" if wish == "auto" else bool(wish)

    @cached_property
    def _data(self) -> str:
        """Of all samples by position; reckoned once, as some sources look through their files for it."""
        return self.stage.data_fingerprint()

    def _recipe(self) -> dict[str, Any]:
        recipe: dict[str, Any] = self.config.model_dump(mode="json")
        return recipe

    def _check_recipe(self, saved: Mapping[str, Any] | None, path: Path) -> None:
        """Say how the recipe differs from the one the checkpoint was written by; refuse what must not differ."""
        found = [] if saved is None else changes(saved, self._recipe())
        check_resumable(found, str(path))
        if self._peers.rank == 0:
            if saved is None:
                _log.warning("checkpoint %s does not say what recipe it is of; it is taken as it is", path.name)
            for change in found:
                _log.warning("since checkpoint %s the recipe has changed: %s", path.name, change)

    def _state(self) -> dict[str, dict[str, Tensor]]:
        """Weights, buffers and averages, as they lie in memory."""
        averages = {group: merged([e.values for e in averages]) for group, averages in self.averages().items()}
        return {"model": self.stage.state(), **averages}

    def _optimizer_state(self) -> dict[str, Tensor]:
        return {f"{name}.{k}": v for name, updater in self.updaters.items() for k, v in updater.state().items()}

    def _own_rng(self) -> dict[str, Tensor]:
        return {f"{RNG_GROUP}/{self._peers.rank}.{name}": value for name, value in rng_state().items()}

    def _write(self, path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        checkpoint_files.write(path, tensors, state, self._peers)
        train = self.config.train
        if not state.get("bad_steps"):  # else the run may have to go back to the oldest of them
            self._peers.by_first(lambda: self.run.prune(train.keep_last, train.keep_every_steps))

    def _require_space_for_the_first(self) -> None:
        """Know before the first step that a checkpoint will fit; warn when all that are kept will not."""
        weights = [p for updater in self.updaters.values() for p in updater.parameters.values()]
        tensors = [value for values in self._state().values() for value in values.values()] + MOMENTS * weights
        needed = checkpoint_files.size_in_bytes(tensors)
        self.run.peers.by_first(lambda: require_space(self.run.checkpoints, needed, "a checkpoint of this run"))
        missing = self.config.train.keep_last + 1 - len(self.run.checkpoint_paths())
        if self._peers.rank == 0 and shutil.disk_usage(self.run.checkpoints).free < missing * needed:
            _log.warning("disk: no room for %d more checkpoints of %s each", missing, gigabytes(needed))

    def _newest_valid(self, before: int | None) -> Path:
        """The checkpoint to go on from."""
        peers = self.run.peers
        found = peers.by_first(self.run.checkpoint_paths)
        refused = []
        for path in found:
            if before is not None and step_of(path) >= before:
                continue
            reason = checkpoint_files.damage(path, peers)
            if reason is None:
                return path
            aside = peers.by_first(lambda path=path: self.run.set_aside(path))  # type: ignore[misc]
            refused.append(f"{path.name} ({reason})")
            _log.warning("checkpoint %s is damaged (%s): skipped, now %s", path, reason, aside.name)
        damaged = f" damaged: {', '.join(refused)};" if refused else ""
        raise UserError(
            f"run directory {str(self.run.path)!r}: no checkpoint to resume from;{damaged} start without --resume"
        )

    def _read(self, path: Path) -> None:
        """Fill everything in place; a tensor that is sharded here takes its pieces wherever they were written."""
        saved = checkpoint_files.pieces(path)
        own = self._state()
        if missing := sorted(own.keys() - {key.partition("/")[0] for key in saved}):
            raise UserError(f"checkpoint {str(path)!r}: holds no {missing[0]}; resume with the train.extra_ema it had")
        for updater in self.updaters.values():
            updater.forget()  # or a run that goes back holds its moments twice
        own[OPTIMIZER_GROUP] = self._optimizer_room(saved, path)
        tensors = checkpoint_files.flattened(own)
        _check_fits(path, tensors, saved)
        random = {key: torch.empty(p.shape, dtype=p.dtype) for key, p in saved.items() if key.startswith(self._rng_key)}
        checkpoint_files.read_into(path, tensors | random, self.run.peers)
        self._put_back(own)
        if random:
            set_rng_state({key.removeprefix(self._rng_key): value for key, value in random.items()})
        else:
            spread(self.config.seed, self._peers.rank)

    def _put_back(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.stage.load_state(groups["model"])
        for group, averages in self.averages().items():
            for average in averages:
                average.load(groups[group])
        for name, updater in self.updaters.items():
            prefix = f"{name}."
            states = groups[OPTIMIZER_GROUP].items()
            updater.load_state({key.removeprefix(prefix): v for key, v in states if key.startswith(prefix)})

    @property
    def _rng_key(self) -> str:
        return f"{RNG_GROUP}/{self._peers.rank}."

    def _optimizer_room(self, saved: Mapping[str, checkpoint_files.Piece], path: Path) -> dict[str, Tensor]:
        """Empty tensors for the saved state: like its weight where it has the weight's shape, else plain."""
        room: dict[str, Tensor] = {}
        for key, piece in saved.items():
            group, _, name = key.partition("/")
            if group != OPTIMIZER_GROUP:
                continue
            owner, kind, quantity = name.split(".", 2)  # the weight's name, and what is kept of it
            if owner not in self.updaters or kind not in self.updaters[owner].optimizers:
                raise UserError(f"checkpoint {str(path)!r}: is of a run with optimiser {owner}.{kind}; resume with it")
            weight = self.updaters[owner].parameters.get(quantity.rpartition(".")[0])
            room[name] = (
                torch.empty_like(weight.detach(), dtype=piece.dtype)
                if weight is not None and weight.shape == piece.shape
                else torch.empty(piece.shape, dtype=piece.dtype, device=self.stage.device)
            )
        return room

    def _drop_after(self, step: int) -> None:
        """What lies after the step that the run goes on from: those steps will be taken again."""
        for path in self.run.checkpoint_paths():
            if step_of(path) > step:
                self.run.remove(path)
        self.run.rewind(step)


class Background:
    """Writes on a thread what was copied before the next step changes it.

    Args:
        device: whose tensors are copied; those of a CUDA device into page-locked memory that is kept for the next time.
    """

    def __init__(self, device: torch.device) -> None:
        is_cuda = device.type == "cuda"
        options = {"use_pinned_memory": is_cuda, "use_non_blocking_copy": is_cuda}
        self._stager = DefaultStager(StagingOptions(use_shared_memory=False, use_async_staging=False, **options))
        self._thread = one_thread(device, "checkpoint")
        self._stream = torch.cuda.Stream(device) if is_cuda else None  # type: ignore[no-untyped-call]
        self._work: Future[None] | None = None

    def start(self, write: Any, tensors: Mapping[str, Tensor]) -> None:
        """Copy the tensors now; hand the copies to ``write`` on the thread."""
        staged = self._stager.stage(dict(tensors))
        self._work = self._thread.submit(self._write, write, staged)

    def wait(self) -> None:
        """Until the last :meth:`start` is done; its error is raised here."""
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def _write(self, write: Any, staged: Any) -> None:
        # torch's writer waits for its thread's stream again and again: by default that of the steps, now an idle one.
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            write(staged)


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several mappings as one."""
    return {name: value for part in parts for name, value in part.items()}


def _check_fits(path: Path, own: Mapping[str, Tensor], saved: Mapping[str, checkpoint_files.Piece]) -> None:
    """The checkpoint is of these very networks.

    Raises:
        UserError: missing, unexpected or differently shaped tensors; the first of them is named.
    """
    groups = {key.partition("/")[0] for key in own}
    shared = {key for key in saved if key.partition("/")[0] in groups}
    problems = [f"has no {key}" for key in own if key not in saved]
    problems += [f"has {key}, which this recipe has not" for key in sorted(shared - own.keys())]
    problems += [
        f"{key} is {list(saved[key].shape)}, not {list(value.shape)}"
        for key, value in own.items()
        if key in saved and saved[key].shape != value.shape
    ]
    if problems:
        raise UserError(f"checkpoint {str(path)!r}: {problems[0]}; resume with the recipe it was made by")
