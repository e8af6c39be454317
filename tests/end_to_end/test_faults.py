"""What can go wrong in the night, row by row of the table in ``docs/faults.md``: the exit code, the sentence, and that
nothing is lost: taken up again, every run here ends with the bits of one to which nothing happened.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from shutil import copytree, disk_usage, rmtree
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import tiny_data
import tiny_recipes
import two_ranks
from raekit import files
from raekit.cli.app import main
from raekit.data.quarantine import QUARANTINE_FILE
from raekit.errors import UserError
from raekit.training.guarding.watchdog import EXIT_STUCK
from raekit.training.loop import Trainer
from raekit.training.saving import checkpoint_files
from raekit.training.stage1 import Stage1

STEPS = 6
Raekit = Callable[..., tuple[int, str]]
DYING = """
import os, signal
from raekit.cli.app import main
from raekit.training.saving import checkpoint_files
seal = checkpoint_files._seal
def seal_or_die(partial, directory, content):
    if content["state"]["step"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    seal(partial, directory, content)
checkpoint_files._seal = seal_or_die
main()
"""
HOLDING = """
import sys
from pathlib import Path
from raekit.training.saving.run_lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of six steps, each second one saved; its run is the unbroken one."""
    folder = tmp_path_factory.mktemp("faults")
    values = tiny_recipes.stage1(folder)
    values["train"] |= {"steps": STEPS}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    Trainer(tiny_recipes.resolve(values)).train()
    return path


@pytest.fixture
def raekit(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Raekit:
    """``raekit train`` in this process: its exit code, and what it wrote to stderr in one line."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["raekit", "train", str(recipe), *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), " ".join(capsys.readouterr().err.split())

    return run


def last(run: Path) -> dict[str, Tensor]:
    """Everything that the last checkpoint holds, but the generators that each process was born with."""
    groups = checkpoint_files.load(run / "checkpoints" / f"step_{STEPS:08d}").tensors
    kept = {group: values for group, values in groups.items() if group != "rng"}
    return {f"{group}/{name}": value for group, values in kept.items() for name, value in values.items()}


def assert_nothing_is_lost(run: Path, recipe: Path) -> None:
    """The last checkpoint has the bits of the unbroken run's, and every step is in the log once."""
    one, other = last(run), last(recipe.parent / "run")
    assert one.keys() == other.keys() and not [name for name in one if not torch.equal(one[name], other[name])]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))


def copied(recipe: Path, run: Path) -> Path:
    """The unbroken run, as it was right after its last checkpoint."""
    copytree(recipe.parent / "run", run)
    (run / "finished.json").unlink()
    rmtree(run / "autoencoder")
    return run


def child(*words: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *map(str, words)], env=environment, text=True, **pipes, **options)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(recipe: Path, raekit: Raekit, tmp_path: Path) -> None:
    run = tmp_path / "run"
    dying = child("-c", DYING, "train", recipe, "--run", run)
    assert (dying.communicate(), dying.returncode)[1] == -signal.SIGKILL
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [".step_00000004.partial", "step_00000002"]
    assert raekit("--run", run, "--resume")[0] == 0
    assert_nothing_is_lost(run, recipe)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "words"), [(cut, "bytes, not"), (flip, "does not match its checksum")])
def test_a_damaged_checkpoint(
    damage: Callable[[Path], None],
    words: str,
    recipe: Path,
    raekit: Raekit,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = copied(recipe, tmp_path / "run")
    damage(run / "checkpoints" / f"step_{STEPS:08d}" / "__0_0.distcp")
    assert raekit("--run", run, "--resume")[0] == 0
    assert words in caplog.text and (run / "checkpoints" / f"damaged_step_{STEPS:08d}").is_dir()
    assert_nothing_is_lost(run, recipe)


def shard(path: Path) -> Path:
    """A tar of the eight tiny pictures with their captions."""
    pictures = tiny_data.pictures(path.parent / "drawn")
    with tarfile.open(path, "w") as tar:
        for file in sorted(pictures.iterdir()):
            content = file.read_bytes()
            member = tarfile.TarInfo(file.name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    rmtree(pictures)
    return path


def mixture(kind: str, path: Path) -> str:
    return f"data.mixture=[{{name: {kind}, path: {path}}}]"


def test_a_shard_cut_short_is_told_before_the_first_step(raekit: Raekit, tmp_path: Path) -> None:
    tar = shard(tmp_path / "a.tar")
    os.truncate(tar, tar.stat().st_size - 12_000)
    code, sentence = raekit("--run", tmp_path / "run", "--set", mixture("shards", tar))
    assert code == 2 and "a.tar" in sentence and "cut short" in sentence
    assert not list(tmp_path.glob("run/checkpoints/step_*"))


def test_rotten_bytes_in_a_shard_cost_one_sample(raekit: Raekit, tmp_path: Path) -> None:
    tar, run = shard(tmp_path / "a.tar"), tmp_path / "run"
    with tarfile.open(tar) as opened:
        member = opened.getmember("green_square.png")
    with tar.open("r+b") as file:
        file.seek(member.offset_data)
        file.write(bytes(member.size))
    assert raekit("--run", run, "--set", mixture("shards", tar))[0] == 0
    (noted,) = (json.loads(line) for line in (run / QUARANTINE_FILE).read_text().splitlines())
    assert "green_square" in noted["key"] and len(last(run)) > 20


def test_an_unreadable_picture_is_replaced_and_written_down(raekit: Raekit, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tiny_data.pictures(tmp_path / "pictures")
    cut(folder / "blue_circle.png")
    (folder / "red_circle.png").write_bytes(b"not a picture")
    assert raekit("--run", run, "--set", mixture("folder", folder))[0] == 0
    noted = [json.loads(line)["key"] for line in (run / QUARANTINE_FILE).read_text().splitlines()]
    assert sorted("blue" in key or "red" in key for key in noted) == [True, True]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-2]["bad/folder"] == 2


def not_a_number_on_one(values: dict[str, Any], folder: str) -> None:
    """The second of two processes has a broken loss at step 1; both write down what they hold, and how they count."""
    trainer = Trainer(tiny_recipes.resolve(values))
    assert isinstance(trainer.stage, Stage1)
    loss = trainer.stage.reconstruction
    honest, rank = loss.terms, trainer.run.peers.rank

    def terms(*arguments: Any) -> dict[str, Tensor]:
        is_broken = rank == 1 and trainer.step == 1
        return {k: v * (float("nan") if is_broken else 1.0) for k, v in honest(*arguments).items()}

    loss.terms = terms  # type: ignore[method-assign,assignment]
    micros = trainer.ready(trainer._batches())
    states = []
    for _ in range(3):
        trainer.train_step(micros)
        states.append({name: value.clone() for name, value in trainer.stage.state().items()})
    torch.save([states, trainer.guards.counts, trainer.guards._totals], Path(folder) / f"{rank}.pt")


def test_not_a_number_on_one_process_of_two_is_skipped_by_both(tmp_path: Path) -> None:
    two_ranks.run(not_a_number_on_one, tiny_recipes.stage1(tmp_path), str(tmp_path))
    (states, counts, _), (others, other_counts, _) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert counts == other_counts == {"bad_steps": 0, "not_finite": 1, "spikes": 0}
    for state, other in zip(states, others, strict=True):
        assert not [name for name in state if not torch.equal(state[name], other[name])]
    moved = [any(not torch.equal(a[name], b[name]) for name in a) for a, b in zip(states, states[1:], strict=False)]
    assert moved == [False, True]  # step 1 was passed over by both, step 2 was taken by both


def fills_up_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """No room any more when the second checkpoint is due."""

    def usage(folder: Path) -> Any:
        return disk_usage(folder)._replace(free=1000 if (folder / "step_00000002").is_dir() else 10**15)

    monkeypatch.setattr(files.shutil, "disk_usage", usage)


def fills_up_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else takes the room while the second checkpoint is written."""
    flush = files.flush

    def flush_or_fail(path: Path) -> None:
        if "step_00000004" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(checkpoint_files, "flush", flush_or_fail)


@pytest.mark.parametrize(
    ("fills_up", "words"), [(fills_up_before, "free some space"), (fills_up_while, "the disk is full; free some space")]
)
def test_a_full_disk(
    fills_up: Callable[[pytest.MonkeyPatch], None], words: str, recipe: Path, raekit: Raekit, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as full:
        fills_up(full)
        code, sentence = raekit("--run", run)
    assert code == 2 and words in sentence
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000002"]
    assert raekit("--run", run, "--resume")[0] == 0
    assert_nothing_is_lost(run, recipe)


def stuck(folder: Path) -> Path:
    """A folder in which one picture is a pipe: whoever opens it waits until somebody writes to it."""
    tiny_data.pictures(folder)
    (folder / "green_circle.png").unlink()
    os.mkfifo(folder / "green_circle.png")
    return folder


def test_a_stuck_loader_is_reported_with_its_stack(tmp_path: Path) -> None:
    values = tiny_recipes.stage1(tmp_path)
    pipe = stuck(tmp_path / "pictures") / "green_circle.png"
    trainer = Trainer(tiny_recipes.resolve(values, steps=2, stuck_after_seconds=2.0))
    codes = []
    is_left = threading.Event()

    def leave(code: int) -> None:
        """In place of the process's end: let the reader go, so that this test can end."""
        codes.append(code)
        is_left.set()

    def let_go() -> None:
        is_left.wait()
        while threading.active_count() > 1:
            pipe.write_bytes(b"")

    trainer.watchdog._leave = leave
    threading.Thread(target=let_go, daemon=True).start()
    trainer.train()
    report = (trainer.run.path / "stuck_rank_0.txt").read_text()
    assert codes == [EXIT_STUCK]
    assert "while waiting for data" in report and "folder.py" in report


@pytest.mark.slow
def test_a_stuck_loader_ends_the_process(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--set", mixture("folder", stuck(tmp_path / "pictures")), "--set", "train.stuck_after_seconds=5"]
    hanging = child("-m", "raekit", "train", recipe, "--run", run, *settings)
    _, text = hanging.communicate(timeout=300)
    assert hanging.returncode == EXIT_STUCK and "process 0 is stuck" in text and "folder.py" in text
    assert "process 0 is stuck" in (run / "stuck_rank_0.txt").read_text()


def failing(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """What a loader does whose cache folder was deleted meanwhile."""
    yield from islice(batches, count)
    raise UserError("the cache is gone")


def test_a_loader_that_fails_costs_no_step(
    recipe: Path, raekit: Raekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, batches = tmp_path / "run", Stage1.batches
    with monkeypatch.context() as gone:
        gone.setattr(Stage1, "batches", lambda *arguments: failing(batches(*arguments), 3))
        code, sentence = raekit("--run", run)
    assert code == 2 and "the cache is gone; step 3 is saved, --resume goes on from it" in sentence
    assert raekit("--run", run, "--resume")[0] == 0
    assert_nothing_is_lost(run, recipe)
    with monkeypatch.context() as gone:
        gone.setattr(Stage1, "batches", lambda *arguments: failing(batches(*arguments), 0))
        assert raekit("--run", tmp_path / "empty")[0] == 2
    assert not list((tmp_path / "empty" / "checkpoints").iterdir()), "nothing was learned, nothing is saved"


def fail_on_one(values: dict[str, Any]) -> None:
    """The second of two processes has data for ten micro-batches of four samples, five steps."""
    trainer = Trainer(tiny_recipes.resolve(values, steps=20, micro_batch_size=4, save_every_steps=1000))
    if trainer.run.peers.rank == 1:
        batches = trainer.stage.batches
        trainer.stage.batches = lambda *a: failing(batches(*a), 10)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="the cache is gone; step [45] is saved"):
        trainer.train()
    steps = trainer.run.peers.gathered(trainer.step)
    assert steps[0] == steps[1] and trainer.run.checkpoint_path(trainer.step).is_dir()


def test_a_loader_that_fails_on_one_process_of_two_costs_no_step(tmp_path: Path) -> None:
    two_ranks.run(fail_on_one, tiny_recipes.stage1(tmp_path))


def test_a_second_process_on_the_same_run(recipe: Path, raekit: Raekit, tmp_path: Path) -> None:
    run = copied(recipe, tmp_path / "run")
    rmtree(run / "checkpoints" / f"step_{STEPS:08d}")
    first = child("-c", HOLDING, run)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    code, sentence = raekit("--run", run, "--resume")
    assert code == 2 and f"process {first.pid} on" in sentence and "is writing it" in sentence
    first.kill()
    first.communicate()
    assert raekit("--run", run, "--resume")[0] == 0  # a dead process holds nothing
    assert_nothing_is_lost(run, recipe)
