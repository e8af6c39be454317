"""Steps that must not count, and what becomes of a run that keeps having them.

In: the loss and gradient norms of every player's turn, on the device. Out: a flag there that lets the optimiser pass
over the turn; and, where the host waits anyway, whether the run goes on, goes back or stops.

A turn is bad when a value is not finite, or far above what it was in the last steps (``spikes.py``). A bad turn leaves
weights, optimiser and averages as they are, so one bad batch costs one step. Many bad steps in a row mean that the
weights themselves went wrong before: the run takes up the last checkpoint from before the row, once, at a lower
learning rate. If that does not help it stops and leaves a report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from raekit import distributed
from raekit.config import Config
from raekit.training.guarding.bad_steps import BadSteps, Row
from raekit.training.guarding.spikes import Limit, Window
from raekit.training.optim import Updater

LOSS_SHARE, NORM_SHARE = 0.5, 4.0
"""Least distance from the median of a spike, as a share of it: half as much again for a loss; five times as much for a
gradient norm, which clipping bounds anyway and which moves by factors while a fresh network finds its feet."""
REMEMBERED = 64
"""Turns of each player that a report can show, at least; more where ``train.max_bad_steps`` is."""
GOOD, SPIKE, NOT_FINITE = 0, 1, 2
WORDS = {GOOD: "good", SPIKE: "spike", NOT_FINITE: "not finite"}
"""Verdicts on a turn, and how a report calls them."""


class GuardConfig(Config):
    """When a step is passed over though it is finite, and what becomes of a run with too many bad steps in a row."""

    loss_spike: float | None = Field(10.0, gt=0)
    """Robust standard deviations (1.4826 times the median absolute deviation) above the median of the window at which a
    loss is a spike, if it is also half as much again as the median; None = no loss is."""
    gradient_spike: float | None = Field(20.0, gt=0)
    """The same for a gradient norm, before clipping, if it is also five times the median; None = no norm is."""
    window_steps: int = Field(128, ge=8)
    """Accepted steps that median and deviation are taken over; judged once half of them are there."""
    goes_back: bool = True
    """After ``max_bad_steps`` in a row, take up the last checkpoint from before them, once; False: stop at once."""
    lr_factor: float = Field(0.5, gt=0, le=1)
    """Factor on every learning rate from then on."""


class BadRow(Exception):
    """Too many bad steps in a row; the loop goes back or stops."""

    def __init__(self, row: Row) -> None:
        super().__init__(f"{row.length} bad steps in a row from step {row.first_step}")
        self.row = row


class Turns:
    """One player's last turns: their watched values, their verdicts, and the window they are judged by."""

    def __init__(self, limits: Mapping[str, Limit], size: int, remembered: int, device: torch.device | str) -> None:
        self.window = Window(limits, size, device)
        self.terms: set[str] = set()
        self._steps = [-1] * remembered
        self._seen = torch.zeros(len(limits) + 1, remembered, device=device)

    def judge(self, values: Tensor, step: int) -> Tensor:
        """The verdict on ``values [V]``; float ``[]``."""
        is_finite = values.isfinite().all()
        is_spike = self.window.is_spike(values)
        verdict = torch.where(is_finite, is_spike.float() * SPIKE, NOT_FINITE)
        self.window.add(values, verdict == GOOD)
        place = step % len(self._steps)
        self._steps[place] = step
        self._seen[:, place] = torch.cat([values, verdict[None]])
        return verdict

    def rows(self) -> Iterator[tuple[int, int, dict[str, float]]]:
        """(step, verdict, values) of the turns remembered, in order; asks the device."""
        columns = self._seen.T.tolist()
        for step, column in sorted(zip(self._steps, columns, strict=True)):
            if step >= 0:
                yield step, int(column[-1]), dict(zip(self.window.names, column[:-1], strict=True))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"window": self.window.state(), "terms": sorted(self.terms)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.window.load_state(state["window"])
        self.terms = set(state["terms"])
        self._steps = [-1] * len(self._steps)


class Guards:
    """Judges every turn of every player, and counts.

    Args:
        config: limits.
        max_bad_steps: bad steps in a row after which the run goes back or stops.
        updaters: whose learning rates are lowered.
        device: where losses and norms lie.

    Attributes:
        went_back_from: the step from which the run went back to a checkpoint; None = it never did.
    """

    def __init__(
        self, config: GuardConfig, max_bad_steps: int, updaters: Mapping[str, Updater], device: torch.device | str
    ) -> None:
        self.config, self.max_bad_steps, self.device = config, max_bad_steps, device
        self.went_back_from: int | None = None
        self.players: dict[str, Turns] = {}
        self._updaters = updaters
        self._bad = BadSteps(device)
        self._totals = torch.zeros(2, dtype=torch.int64, device=device)
        self._waiting: dict[str, Any] = {}

    @property
    def bad_steps(self) -> int:
        """Bad steps in a row up to now; asks the device."""
        return self._bad.now

    @property
    def counts(self) -> dict[str, int]:
        """Bad steps in a row, and all turns so far that were passed over, by reason; asks the device."""
        spikes, not_finite = self._totals.tolist()
        return {"bad_steps": self._bad.now, "not_finite": not_finite, "spikes": spikes}

    def judge(self, player: str, step: int, terms: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> Tensor:
        """Judge a turn by its terms and gradient norms; alike on all processes, and without asking the device.

        Args:
            player: its name.
            step: number of the step.
            terms: of this process, ``loss`` among them. If there is a ``reconstruction`` as well, that is what a spike
                is looked for in: the loss beside it then has an adversarial part, whose size says nothing.
            norms: before clipping, by group; the same on all processes.

        Returns:
            1.0 for a turn to pass over, else 0.0.
        """
        watched = "reconstruction" if "reconstruction" in terms else "loss"
        named = {name: terms[name] for name in sorted({"loss", watched})} | {
            f"{n}/grad_norm": v for n, v in norms.items()
        }
        values = torch.stack([value.detach().float() for value in named.values()])
        distributed.average([values])  # one message, so every process judges the same bits
        turns = self._turns(player, tuple(named), watched)
        if not terms.keys() <= turns.terms:  # a term has come in: the loss now means something else
            turns.window.forget()
            turns.terms |= terms.keys()
        verdict = turns.judge(values, step)
        self._totals += torch.stack([verdict == SPIKE, verdict == NOT_FINITE])
        return (verdict != GOOD).float()

    def count(self, is_bad: Tensor, step: int) -> None:
        """Count step number ``step``; ``is_bad`` is 1.0 if a turn of it was passed over."""
        self._bad.add(is_bad, step)

    def check(self) -> None:
        """Ask the device whether there were too many bad steps in a row.

        Raises:
            BadRow: there were.
        """
        row = self._bad.read()
        if row.length >= self.max_bad_steps:
            raise BadRow(row)

    @property
    def may_go_back(self) -> bool:
        """Whether the run may take up an earlier checkpoint: once, unless the recipe forbids it."""
        return self.config.goes_back and self.went_back_from is None

    def go_back(self, step: int) -> None:
        """Lower the learning rates: after step ``step`` the run went back, and its checkpoint has been loaded."""
        self.went_back_from = step
        self._scale_rates()

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        players = {**self._waiting, **{name: turns.state() for name, turns in self.players.items()}}
        kept = {"went_back_from": self.went_back_from, "totals": self._totals.tolist(), "players": players}
        return {**self._bad.state(), "guards": kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self._bad.load_state(state)
        if "guards" not in state:
            return
        kept = state["guards"]
        self.went_back_from = kept["went_back_from"]
        self._totals.copy_(torch.tensor(kept["totals"]))
        self.players, self._waiting = {}, dict(kept["players"])
        self._scale_rates()

    def _turns(self, player: str, names: tuple[str, ...], watched: str) -> Turns:
        """The player's turns; made at its first one, and again when other values are watched."""
        turns = self.players.get(player)
        if turns is None or turns.window.names != names:
            config = self.config
            limits = {name: Limit(config.gradient_spike, NORM_SHARE) for name in names} | {"loss": Limit(None)}
            limits[watched] = Limit(config.loss_spike, LOSS_SHARE)
            size, remembered = config.window_steps, max(REMEMBERED, self.max_bad_steps)
            turns = self.players[player] = Turns(limits, size, remembered, self.device)
            if player in self._waiting:
                turns.load_state(self._waiting.pop(player))
        return turns

    def _scale_rates(self) -> None:
        scale = 1.0 if self.went_back_from is None else self.config.lr_factor
        for updater in self._updaters.values():
            updater.lr_scale = scale
