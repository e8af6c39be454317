"""Kill a training run at random, again and again, and compare what comes out with a run that was never touched.

    python scripts/soak.py                      # 200 kills
    python scripts/soak.py --kills 20 --seconds 600

In: a small stage-2 run in the bundled nano latent space: labelled drawings, a DiT of 0.2M weights. It is trained twice.
The first run is left alone. The second is killed by SIGKILL at random moments, while it starts, in the middle of steps
and while it writes, and resumed each time, until it has been killed so often; then it may end. Out: one line, and exit
code 0 if every tensor of the last checkpoint (weights, average, optimiser) and every logged loss is the same, bit for
bit, and 1 otherwise.

Each life is forked from a process that has everything imported, so it costs half a second and not six.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = [
    "raekit.training.stage2",
    "raekit.training.loop",
    "raekit.data.folder",
    "raekit.backbones.dit",
    "raekit.encoders.nano",
]
COLOURS = ("red", "green", "blue", "orange")
SAVE_EVERY = 2
"""Steps between checkpoints: a good part of the time is spent writing them."""
MOST_STEPS = 6
"""Steps that a life may take before it is killed."""
STEPS_PER_KILL = MOST_STEPS + 3
"""Steps that a life may get done at most: those, and what it takes until the kill arrives."""
EARLY = 0.15
"""Share of the kills that come while the run is still starting."""


@dataclass
class Tally:
    """Where the kills hit."""

    starting: int = 0
    stepping: int = 0
    writing: int = 0

    @property
    def total(self) -> int:
        return self.starting + self.stepping


def main() -> None:
    arguments = parse()
    draw = random.Random(arguments.seed)
    begin = time.time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Enough that the run cannot come to its end while it is still to be killed.
        recipe = make_recipe(folder, steps=STEPS_PER_KILL * (arguments.kills + 1))
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        live(recipe, folder / "whole", is_resumed=False, background=False).join()
        end = time.time() + arguments.seconds if arguments.seconds else math.inf
        tally = kill_and_resume(recipe, folder / "broken", (arguments.kills, end), draw)
        differences = compare(folder / "whole", folder / "broken")
    print(
        f"{tally.total} kills ({tally.starting} while starting, {tally.writing} left a half-written checkpoint), "
        f"{recipe['train']['steps']} steps, {time.time() - begin:.0f} s: "
        + (f"DIFFERENT: {', '.join(differences[:5])}" if differences else "the same bits as the unbroken run")
    )
    sys.exit(1 if differences else 0)


def make_recipe(folder: Path, steps: int) -> dict[str, Any]:
    """The run, over pictures drawn into ``folder``."""
    from PIL import Image, ImageDraw

    for label, colour in enumerate(COLOURS):
        for size in range(6):
            image = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(image).ellipse((8, 8, 28 + 5 * size, 28 + 5 * size), fill=colour)
            path = folder / f"pictures/{label}_{colour}/{size}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    data = {"image_size": 64, "mixture": [{"name": "folder", "path": str(folder / "pictures")}]}
    every = {"save_every_steps": SAVE_EVERY, "log_every_steps": 1, "sample_every_steps": 10**9}
    return {
        "stage": "stage2",
        "latent_space": str(ROOT / "src/raekit/models/nano/autoencoder"),
        "data": data,
        "held_out": data,
        "condition": {"name": "label", "num_classes": len(COLOURS), "width": 64},
        "backbone": {"name": "dit", "width": 64, "depth": 2, "heads": 2},
        "sample_prompts": [0],
        "sampling": {"steps": 1},
        "num_held_out": 8,
        "optim": {"lr": 1e-3, "schedule": {"warmup_steps": 4}},
        "train": {
            "steps": steps,
            "batch_size": 4,
            "precision": "fp32",
            "device": "cpu",
            "keep_every_steps": 50,
            **every,
        },
    }


def kill_and_resume(recipe: dict[str, Any], run: Path, limits: tuple[int, float], draw: random.Random) -> Tally:
    """Train below ``run`` with so many interruptions, and none after so many seconds of the clock."""
    kills, end = limits
    tally, longest = Tally(), 1.0
    while tally.total < kills and time.time() < end:
        here, there = multiprocessing.Pipe(duplex=False)
        begin = time.time()
        is_resumed = any((run / "checkpoints").glob("step_*"))
        process = live(recipe, run, is_resumed, background=draw.random() < 0.5, reports=there)
        there.close()
        is_early = draw.random() < EARLY and longest > 1.0
        if is_early:
            time.sleep(draw.uniform(0, longest))
        else:
            left = recipe["train"]["steps"] - newest(run)
            step_seconds = follow(here, draw.randint(0, min(MOST_STEPS, max(left - 2 * SAVE_EVERY, 0))))
            longest = 0.5 * longest + 0.5 * min(time.time() - begin, 60)
            time.sleep(draw.uniform(0, 1.5 * step_seconds))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode != -signal.SIGKILL:
            sys.exit(f"a life ended by itself with exit code {process.exitcode}")
        tally.starting += is_early
        tally.stepping += not is_early
        tally.writing += any((run / "checkpoints").glob(".step_*"))
    live(recipe, run, any((run / "checkpoints").glob("step_*")), background=False).join()
    return tally


def live(
    recipe: dict[str, Any], run: Path, is_resumed: bool, background: bool, reports: Connection | None = None
) -> Any:
    """One life of the run, in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    train = {**recipe["train"], "save_in_background": background}
    process = context.Process(target=work, args=({**recipe, "train": train, "run": str(run)}, is_resumed, reports))
    process.start()
    return process


def work(recipe: dict[str, Any], is_resumed: bool, reports: Connection | None) -> None:
    """What a life does: train, and tell of each step before it is taken."""
    import torch

    from raekit.config import validate
    from raekit.training.loop import Trainer
    from raekit.training.stage2 import Stage2

    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # no progress bars
    trainer = Trainer(validate(Stage2.Config, recipe, "recipe"), is_resumed)
    if reports is not None:
        step = trainer.train_step

        def reported(micros: Any) -> Any:
            reports.send(trainer.step)
            return step(micros)

        trainer.train_step = reported  # type: ignore[method-assign]
    trainer.train()


def follow(reports: Connection, steps: int) -> float:
    """Wait until that many steps are over; seconds that one takes, its share of the writing included."""
    begin, seconds = time.time(), 0.2
    try:
        for number in range(steps + 1):
            reports.recv()
            if number:
                seconds = (time.time() - begin) / number
            else:
                begin = time.time()
    except EOFError:
        sys.exit("a life ended by itself; run it once without kills to see why")
    return seconds


def newest(run: Path) -> int:
    """Step of the newest checkpoint."""
    return max((int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*")), default=0)


def compare(whole: Path, broken: Path) -> list[str]:
    """Names of what differs between the last checkpoints and between the logs."""
    import torch

    from raekit.training.saving import checkpoint_files

    one, other = (checkpoint_files.load(run / "checkpoints" / f"step_{newest(whole):08d}") for run in (whole, broken))
    names = {(group, name) for group, values in one.tensors.items() for name in values if group != "rng"}
    found = [f"{g}/{n}" for g, n in sorted(names) if not torch.equal(one.tensors[g][n], other.tensors[g][n])]
    return found + ([] if losses(whole) == losses(broken) else ["metrics.jsonl"])


def losses(run: Path) -> list[tuple[int, float]]:
    """The logged losses; each step once and in order, whatever happened in between."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row and math.isfinite(row["loss"])]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0, help="stop killing after this long; 0 = never")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
