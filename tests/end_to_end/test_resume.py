"""Killed and taken up again: the bits of an unbroken run, on one process, on two, and from one number to another.

The runs in one process with twenty steps are in ``tests/training/test_loop.py``; ``scripts/soak.py`` kills at random.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_recipes
import two_ranks
from raekit.training.loop import Trainer
from raekit.training.saving import checkpoint_files
from raekit.training.saving.snapshots import Progress

STAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "stage1": tiny_recipes.stage1,
    "stage2": tiny_recipes.stage2,
    "unified": lambda folder: tiny_recipes.unified(folder, lora={"rank": 2}),
}
CUT: dict[str, tuple[Callable[[Path], dict[str, Any]], dict[str, Any]]] = {
    "fsdp": (lambda folder: tiny_recipes.unified(folder, is_llm_trained=True), {"strategy": "fsdp"}),
    "hsdp": (tiny_recipes.stage2, {"strategy": "hsdp", "shard_size": 1}),
}
HALF, STEPS = 2, 4


def final_tensors(run: Path, step: int = STEPS) -> dict[str, Tensor]:
    """Everything of a checkpoint but the generators of each process, as ``group/name -> tensor``."""
    saved = checkpoint_files.load(run / "checkpoints" / f"step_{step:08d}")
    groups = {group: values for group, values in saved.tensors.items() if group != "rng"}
    return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}


def assert_same_bits(left: Path, right: Path, step: int = STEPS) -> None:
    one, other = final_tensors(left, step), final_tensors(right, step)
    assert one.keys() == other.keys() and len(one) > 20
    assert not [name for name in one if not torch.equal(one[name], other[name])]


def train(runs: list[dict[str, Any]], is_resumed: bool, **options: Any) -> None:
    for values in runs:
        Trainer(tiny_recipes.resolve(values, **{"steps": STEPS, **options}), is_resumed).train()


def train_until_killed(values: dict[str, Any], **options: Any) -> None:
    """The process ends itself by SIGKILL right after the checkpoint in the middle."""
    trainer = Trainer(tiny_recipes.resolve(values, steps=STEPS, **options))
    save = trainer.snapshots.save

    def save_then_die(progress: Progress) -> Path:
        path = save(progress)
        if progress.step == HALF:
            trainer.snapshots.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        return path

    trainer.snapshots.save = save_then_die  # type: ignore[method-assign]
    trainer.train()


def killed(function: Callable[..., None], *arguments: Any, world: int) -> None:
    with pytest.raises(Exception, match="SIGKILL"):
        two_ranks.run(function, *arguments, world=world)


def test_two_processes_killed_and_resumed_end_with_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    made = {stage: make(tmp_path / stage) for stage, make in STAGES.items()}
    runs = {
        name: [{**values, "run": str(tmp_path / stage / name)} for stage, values in made.items()]
        for name in ("whole", "broken", "alone")
    }
    two_ranks.run(train, runs["whole"], False)
    for values in runs["broken"]:
        killed(train_until_killed, values, world=2)
    for broken, alone in zip(runs["broken"], runs["alone"], strict=True):
        shutil.copytree(broken["run"], alone["run"])
    two_ranks.run(train, runs["broken"], True)
    for whole, broken, alone in zip(*runs.values(), strict=True):
        assert_same_bits(Path(whole["run"]), Path(broken["run"]))
        check_that_one_goes_on_from_two(alone, Path(whole["run"]))


def check_that_one_goes_on_from_two(values: dict[str, Any], whole: Path) -> None:
    """One process takes up the very state that two left, and from there the same steps but for rounding."""
    trainer = Trainer(tiny_recipes.resolve(values, steps=STEPS), is_resumed=True)
    assert trainer.progress == Progress(HALF, HALF * 8)
    saved = checkpoint_files.load(trainer.run.checkpoint_path(HALF))
    assert saved.state["processes"] == 2
    assert not [name for name, v in trainer.stage.state().items() if not torch.equal(v, saved.tensors["model"][name])]
    trainer.train()
    expected = final_tensors(whole)
    for name, value in final_tensors(trainer.run.path).items():
        if name.startswith(("model/", "ema/")):
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, name=name: name + m)


def test_cut_weights_killed_and_resumed_have_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    runs: dict[str, list[dict[str, Any]]] = {"whole": [], "broken": []}
    for strategy, (make, parallel) in CUT.items():
        values = make(tmp_path / strategy)
        values["train"]["parallel"] = parallel
        for name, found in runs.items():
            found.append({**values, "run": str(tmp_path / strategy / name)})
    two_ranks.run(train, runs["whole"], False)
    for values in runs["broken"]:
        killed(train_until_killed, values, world=2)
    two_ranks.run(train, runs["broken"], True)
    for whole, broken in zip(*runs.values(), strict=True):
        assert_same_bits(Path(whole["run"]), Path(broken["run"]))


def test_a_unified_run_of_one_process_killed_and_resumed(tmp_path: Path) -> None:
    values = tiny_recipes.unified(tmp_path, lora={"rank": 2})
    whole, broken = ({**values, "run": str(tmp_path / name)} for name in ("whole", "broken"))
    train([whole], False)
    killed(train_until_killed, broken, world=1)
    train([broken], True)
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")


def test_two_processes_go_on_from_one(tmp_path: Path) -> None:
    values = {**tiny_recipes.stage2(tmp_path), "optim": {"lr": 1e-3, "schedule": {"shape": "constant"}}}
    Trainer(tiny_recipes.resolve(values, steps=HALF)).train()
    before = final_tensors(tmp_path / "run", HALF)
    two_ranks.run(train, [values], True)
    after = checkpoint_files.load(tmp_path / "run" / "checkpoints" / "step_00000004")
    assert after.state["processes"] == 2 and {name[:2] for name in after.tensors["rng"]} == {"0.", "1."}
    assert any(not torch.equal(value, before[f"model/{name}"]) for name, value in after.tensors["model"].items())
    unbroken = {**values, "run": str(tmp_path / "unbroken")}
    train([unbroken], False)
    for name, value in final_tensors(tmp_path / "unbroken").items():
        if name.startswith("model/"):
            torch.testing.assert_close(after.tensors["model"][name[6:]], value, rtol=1e-4, atol=1e-5)


def die_while_writing(values: dict[str, Any]) -> None:
    """The thread that writes in the background ends the process before the second checkpoint has its name."""
    seal = checkpoint_files._seal

    def seal_or_die(partial: Path, directory: Path, content: dict[str, Any]) -> None:
        if content["state"]["step"] == STEPS:
            os.kill(os.getpid(), signal.SIGKILL)
        seal(partial, directory, content)

    checkpoint_files._seal = seal_or_die  # type: ignore[assignment]
    train([values], False, steps=2 * STEPS, save_in_background=True)


def test_killed_while_a_checkpoint_is_written_in_the_background(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path)
    whole, broken = ({**values, "run": str(tmp_path / name)} for name in ("whole", "broken"))
    train([whole], False, steps=2 * STEPS)
    killed(die_while_writing, broken, world=1)
    names = sorted(path.name for path in (tmp_path / "broken" / "checkpoints").iterdir())
    assert names == [".step_00000004.partial", "step_00000002"]
    train([broken], True, steps=2 * STEPS, save_in_background=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "broken", 2 * STEPS)
    assert not list((tmp_path / "broken" / "checkpoints").glob(".*"))


def signal_one(values: dict[str, Any], number: int) -> None:
    """Only the second process is told to stop; both do, after the same step, with a checkpoint."""
    trainer = Trainer(tiny_recipes.resolve(values, steps=50, save_every_steps=1000))
    step = trainer.train_step

    def step_then_signal(batches: Any) -> dict[str, Tensor]:
        terms = step(batches)
        if trainer.step == 3 and trainer.run.peers.rank == 1:
            os.kill(os.getpid(), number)
        return terms

    trainer.train_step = step_then_signal  # type: ignore[method-assign]
    assert trainer.train() is None
    assert trainer.run.peers.gathered(trainer.step) == [4, 4]
    assert [path.name for path in trainer.run.checkpoint_paths()] == ["step_00000004"]


def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path: Path) -> None:
    two_ranks.run(signal_one, tiny_recipes.stage1(tmp_path), int(signal.SIGUSR1))


@pytest.mark.slow
def test_the_soak_command_finds_the_same_bits() -> None:
    script = Path(__file__).parents[2] / "scripts/soak.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script, "--kills", "3"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 kills (") and done.stdout.endswith("the same bits as the unbroken run\n")
