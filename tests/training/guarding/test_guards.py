"""Bad steps are passed over alike everywhere, many in a row send the run back once, and then stop it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_recipes
from raekit.errors import UserError
from raekit.training.guarding.guards import BadRow, GuardConfig, Guards
from raekit.training.loop import Trainer
from raekit.training.optim import OptimConfig, Updater
from raekit.training.saving import checkpoint_files
from raekit.training.stage1 import Stage1

SMALL = GuardConfig(window_steps=8, loss_spike=5.0, gradient_spike=5.0)
LOSSES = (1.0, 1.1, 0.9, 1.05, 0.95)


def updater() -> Updater:
    return Updater({"w": nn.Parameter(torch.zeros(2))}, OptimConfig(lr=1e-2), 10)


def guards(config: GuardConfig = SMALL, max_bad_steps: int = 2) -> Guards:
    return Guards(config, max_bad_steps, {"model": updater()}, "cpu")


def judged(guard: Guards, step: int, norm: float = 1.0, **terms: float) -> float:
    given = {name: torch.tensor(value) for name, value in terms.items()}
    flag = guard.judge("", step, given, {"model": torch.tensor(norm)})
    guard.count(flag, step)
    return float(flag)


def warmed(**more: float) -> Guards:
    guard = guards()
    for step, loss in enumerate(LOSSES):
        assert judged(guard, step, loss, loss=loss, **more) == 0.0
    return guard


def test_spikes_and_what_is_not_finite_are_passed_over_and_told_apart() -> None:
    guard = warmed()
    cases: list[tuple[float, float]] = [(9.0, 1.0), (1.0, 9.0), (float("nan"), 1.0), (1.0, float("inf")), (1.3, 4.0)]
    assert [judged(guard, 5 + i, norm, loss=loss) for i, (loss, norm) in enumerate(cases)] == [1, 1, 1, 1, 0]
    assert guard.counts == {"bad_steps": 0, "not_finite": 2, "spikes": 2}
    rows = list(guard.players[""].rows())
    assert [(step, kind) for step, kind, _ in rows[-5:]] == [(5, 1), (6, 1), (7, 2), (8, 2), (9, 0)]
    assert rows[-1][2] == pytest.approx({"loss": 1.3, "model/grad_norm": 4.0})


def test_a_loss_with_a_further_term_is_another_loss() -> None:
    guard = warmed()
    assert judged(guard, 5, loss=50.2, lpips=49.0) == 0.0
    for step, loss in enumerate(LOSSES, 6):
        assert judged(guard, step, loss=49 + loss, lpips=49.0) == 0.0
    assert judged(guard, 12, loss=100.0, lpips=49.0) == 1.0
    assert judged(guard, 13, loss=49.0) == 0.0  # one that does not come every time is nothing new


def test_beside_an_adversary_the_reconstruction_is_what_counts() -> None:
    guard = guards()
    for step, loss in enumerate(LOSSES):
        judged(guard, step, loss=loss, reconstruction=loss)
    assert judged(guard, 5, loss=-1e4, reconstruction=1.02) == judged(guard, 6, loss=1e4, reconstruction=0.97) == 0.0
    assert judged(guard, 7, loss=1.0, reconstruction=3.0) == 1.0
    assert judged(guard, 8, loss=float("nan"), reconstruction=1.0) == 1.0


def test_each_guard_can_be_switched_off() -> None:
    guard = guards(SMALL.model_copy(update={"loss_spike": None, "gradient_spike": None}))
    for step, loss in enumerate(LOSSES):
        judged(guard, step, loss, loss=loss)
    assert judged(guard, 5, 1e9, loss=1e9) == 0.0
    assert judged(guard, 6, 1e9, loss=float("inf")) == 1.0


def test_a_row_is_raised_with_its_place() -> None:
    guard = warmed()
    judged(guard, 5, loss=99.0)
    guard.check()
    judged(guard, 6, loss=99.0)
    with pytest.raises(BadRow, match="2 bad steps in a row from step 5"):
        guard.check()


def test_the_state_holds_everything_that_decides() -> None:
    first, second = warmed(), guards()
    first.go_back(7)
    judged(first, 5, loss=99.0)
    second.load_state(first.state())
    assert second.counts == first.counts and second.went_back_from == 7
    assert second.state() == first.state()  # also before the player's first turn
    lr = [guard._updaters["model"].lr(0) for guard in (first, second, guards())]
    assert lr == [5e-3, 5e-3, 1e-2]
    for guard in (first, second):
        assert [judged(guard, 6, loss=1.2), judged(guard, 7, loss=1.9), guard.bad_steps] == [0.0, 1.0, 1]
    assert second.state() == first.state()


def broken(trainer: Trainer, is_broken: Any) -> Trainer:
    """The trainer, its loss not a number where ``is_broken()``."""
    assert isinstance(trainer.stage, Stage1)
    loss = trainer.stage.reconstruction
    honest = loss.terms

    def terms(*arguments: Any) -> Mapping[str, Tensor]:
        return {k: v * (float("nan") if is_broken() else 1.0) for k, v in honest(*arguments).items()}

    loss.terms = terms  # type: ignore[method-assign,assignment]
    return trainer


def test_a_run_goes_back_once_at_half_the_rate_and_then_stops_with_a_report(tmp_path: Path) -> None:
    # Two are kept, but the one before the bad steps stays while they go on.
    recipe = tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=12, max_bad_steps=2, save_every_steps=1)
    trainer = Trainer(recipe)
    broken(trainer, lambda: trainer.step >= 5 + 4 * (trainer.guards.went_back_from is not None))
    with pytest.raises(
        UserError, match="stopped at step 11: 2 bad steps in a row .2 not finite.; lower optim.lr or see"
    ):
        trainer.train()
    rows = trainer.run.history()
    backs = [i for i, row in enumerate(rows) if "went_back_from" in row]
    assert [(rows[i]["step"], rows[i]["went_back_from"]) for i in backs] == [(4, 7)]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 11))
    assert rows[backs[0] + 2]["lr"] == pytest.approx(trainer.updaters["model"].lr(5)) and trainer.guards.went_back_from
    report = (trainer.run.path / "stopped.md").read_text()
    assert "2 bad steps in a row from step 9" in report and "from step 7 before" in report
    assert "positions 72 to 79" in report and "| 10 | nan | nan | not finite |" in report
    resumed = Trainer(recipe, is_resumed=True)
    assert (resumed.step, resumed.guards.went_back_from) == (10, 7)
    assert resumed.updaters["model"].lr_scale == 0.5
    assert resumed.train() is not None


class Killed(Exception):
    """In place of SIGKILL."""


def stopping_at(trainer: Trainer, step: int) -> Trainer:
    """The trainer, killed before its ``step`` once it has gone back."""
    take = trainer.train_step

    def take_or_die(micros: Any) -> Any:
        if trainer.guards.went_back_from is not None and trainer.step == step:
            raise Killed
        return take(micros)

    trainer.train_step = take_or_die  # type: ignore[method-assign]
    return trainer


def test_killed_after_going_back_and_resumed_has_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    values = tiny_recipes.stage1(tmp_path)
    options: dict[str, Any] = {"steps": 10, "max_bad_steps": 2, "save_every_steps": 4}
    recipes = [tiny_recipes.resolve({**values, "run": str(tmp_path / name)}, **options) for name in ("one", "two")]
    trainers = [Trainer(recipe) for recipe in recipes]
    for trainer in trainers:
        broken(trainer, lambda t=trainer: t.guards.went_back_from is None and t.step >= 5)
    trainers[0].train()
    assert trainers[0].guards.went_back_from == 7
    with pytest.raises(Killed):
        stopping_at(trainers[1], 6).train()
    assert [path.name for path in trainers[1].run.checkpoint_paths()] == ["step_00000004"]
    trainers[1].run.lock.release()
    resumed = Trainer(recipes[1], is_resumed=True)
    assert (resumed.step, resumed.guards.went_back_from, resumed.updaters["model"].lr_scale) == (4, 7, 0.5)
    resumed.train()
    one, two = (checkpoint_files.load(recipe.run / "checkpoints" / "step_00000010") for recipe in recipes)
    for group in ("model", "ema", "optimizer"):
        assert not [k for k, v in one.tensors[group].items() if not torch.equal(v, two.tensors[group][k])]
    assert one.state["guards"] == two.state["guards"]


def test_a_run_that_has_nowhere_to_go_back_to_stops(tmp_path: Path) -> None:
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), max_bad_steps=2))
    broken(trainer, lambda: True)
    with pytest.raises(UserError, match="stopped at step 2"):
        trainer.train()
    assert "could not go back to a checkpoint" in (trainer.run.path / "stopped.md").read_text()
