"""A run directory: what was asked, on what machine, and how it went.

recipe.yaml        the resolved recipe, every default written out
environment.json   versions, device, command line, git commit
metrics.jsonl      one JSON object per logged step
loss.png           the logged losses, redrawn as the run goes
samples/           sheets of pictures, one per sampling step
checkpoints/       step_00001000/ ..., each complete or absent; damaged_step_00001000/ are never read
went_back.json     that the run went back to a checkpoint, and to which, once it did
finished.json      where the artefact lies, once the run has come to its end
run.lock           the process that writes here (``run_lock.py``)
"""

from __future__ import annotations

import json
import logging
import platform
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from PIL import Image, ImageDraw

from raekit import distributed
from raekit.config import Config, dump_yaml
from raekit.errors import UserError
from raekit.files import atomic_file, make_writable, write_atomically
from raekit.training.parallel.peers import Peers
from raekit.training.saving.run_lock import RunLock

FINISHED = "finished.json"
WENT_BACK = "went_back.json"
METRICS = "metrics.jsonl"
STAMPED_PACKAGES = ("raekit", "torch", "transformers", "numpy", "safetensors", "pydantic", "pillow")
CHECKPOINT_NAME = re.compile(r"step_(\d{8,})")
"""Of a checkpoint, whole; a copy that a user named after one is none."""
EXPORT_LEFTOVER = re.compile(r"\.(autoencoder|encoder|generator|lora)\.\w{8}")
"""A folder that an export was killed in; only what this package itself names so."""

_log = logging.getLogger(__name__)


class RunDirectory:
    """The files of one training run; written by the first process only.

    Args:
        path: the directory; made if absent.
        recipe: the resolved recipe, written to ``recipe.yaml``; of a resumed run by :meth:`write_papers`.
        is_resumed: continue in an existing directory; otherwise one that holds checkpoints or a finished run is
            refused.
        has_tensorboard: also write event files below ``tensorboard/``.

    Attributes:
        peers: all processes of the run.
        lock: the right to write here; held by the first process from now on.

    Raises:
        UserError: the directory holds another run, another process writes it, or it cannot be written to.
    """

    def __init__(self, path: Path, recipe: Config, is_resumed: bool, has_tensorboard: bool = False) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / METRICS
        self._recipe = recipe
        self._is_log_cut = False
        self._events = None
        self.peers = Peers.meet()
        self.lock = RunLock(path)
        self.peers.by_first(lambda: self._open(is_resumed))
        if distributed.is_main() and has_tensorboard:
            self._events = _event_writer(path / "tensorboard")

    def __enter__(self) -> RunDirectory:
        self.peers.by_first(self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()

    def checkpoint_paths(self) -> list[Path]:
        """All checkpoints, the newest first; each is complete, but nothing has been said of its content."""
        found = [path for path in self.checkpoints.glob("step_*") if CHECKPOINT_NAME.fullmatch(path.name)]
        return sorted(found, key=step_of, reverse=True)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint after ``step`` optimiser steps lies."""
        return self.checkpoints / f"step_{step:08d}"

    def prune(self, keep_last: int, keep_every_steps: int | None = None) -> None:
        """Remove all but the newest ``keep_last`` checkpoints, and those at multiples of ``keep_every_steps``."""
        for path in self.checkpoint_paths()[keep_last:]:
            if keep_every_steps is None or step_of(path) % keep_every_steps:
                self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a checkpoint, in such a way that a crash never leaves half of one.

        What the disk will not let go of, as NFS does while somebody reads it, stays under a hidden name till later.
        """
        # Not always the same name: an earlier one of the same step may still be there.
        sweep(path.rename(path.with_name(f".{path.name}.{secrets.token_hex(4)}.removed")))

    def set_aside(self, path: Path) -> Path:
        """Give a damaged checkpoint a name under which it is no longer taken for one; it is never removed."""
        aside = path.with_name(f"damaged_{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        return path.rename(aside)

    def finished(self, steps: int) -> Path | None:
        """What the run exported when it came to its end after ``steps`` steps, on every process; None before."""
        return self.peers.by_first(lambda: finished_artefact(self.path, steps))

    def note_going_back(self, step: int, target: int) -> None:
        """Write down that after ``step`` steps the run went back to the checkpoint of ``target``."""
        write_atomically(self.path / WENT_BACK, json.dumps({"from": step, "to": target}).encode())

    def went_back(self, step: int) -> int | None:
        """From where a run that goes on from the checkpoint of ``step`` went back; None = not since it was written."""
        try:
            record = json.loads((self.path / WENT_BACK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return int(record["from"]) if step <= record["to"] else None

    def finish(self, step: int, artefact: Path) -> None:
        """Write down that the run is over."""
        record = {"step": step, "artefact": str(artefact.relative_to(self.path))}
        write_atomically(self.path / FINISHED, json.dumps(record).encode())

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to ``metrics.jsonl``, and the same numbers to TensorBoard when it is on.

        A line that cannot be written costs no more than itself: the first one is told of, and training goes on.
        """
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write("\n" * self._is_log_cut + json.dumps({"step": step, **values}) + "\n")
            self._is_log_cut = False
        except OSError as error:
            if not self._is_log_cut:
                _log.warning("%s: %s; steps are missing from the log until it can be written", self._metrics, error)
            self._is_log_cut = True
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def history(self) -> list[dict[str, Any]]:
        """All logged lines; a line cut short by a crash is left out."""
        return read_log(self.path)

    def rewind(self, step: int) -> None:
        """Drop what was logged after ``step``: those steps will be taken again."""
        rows = [row for row in self.history() if row["step"] <= step]
        with atomic_file(self._metrics) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def save_image(self, name: str, image: Image.Image) -> Path:
        """Write a sheet to ``samples/<name>.png``."""
        path = self.path / "samples" / f"{name}.png"
        with atomic_file(path) as temporary:
            image.save(temporary, format="PNG")
        return path

    def _take(self) -> None:
        """Have the lock, whoever has had it since this object was made."""
        self.lock.acquire()

    def write_papers(self) -> None:
        """Write down the recipe and the machine; by the first process, once nothing speaks against the recipe."""
        write_atomically(self.path / "recipe.yaml", dump_yaml(self._recipe).encode())
        write_atomically(self.path / "environment.json", json.dumps(environment_stamp(), indent=1).encode())

    def _open(self, is_resumed: bool) -> None:
        """What the first process does before anybody writes: take the lock, look, sweep up after a crash."""
        make_writable(self.checkpoints, "run")
        make_writable(self.path, "run")
        self.lock.acquire()
        if not is_resumed:
            self._check_unused()
        for partial in self.checkpoints.glob(".step_*"):
            sweep(partial)
        for partial in (*self.path.glob(".*.tmp"), *self.path.glob("samples/.*.tmp")):
            partial.unlink()
        for partial in (path for pattern in (".*", "ema_*/.*") for path in self.path.glob(pattern) if path.is_dir()):
            if EXPORT_LEFTOVER.fullmatch(partial.name):
                sweep(partial)
        if not is_resumed:  # what a crash before the first checkpoint left belongs to steps that will be taken again
            for name in (METRICS, WENT_BACK):
                (self.path / name).unlink(missing_ok=True)
            self.write_papers()

    def _check_unused(self) -> None:
        """Nobody's run is overwritten, also where its checkpoints are gone and only what it made is left."""
        if self.checkpoint_paths():
            self.lock.release()
            raise UserError(
                f"run directory {str(self.path)!r} holds a run already; pass --resume to continue it or --run DIR"
            )
        if (artefact := _artefact(self.path)) is not None:
            self.lock.release()
            raise UserError(
                f"run directory {str(self.path)!r} holds a finished run without its checkpoints, and "
                f"{artefact.name!r} would be replaced; name another directory with --run, or delete {FINISHED!r} there"
            )

    def plot(self) -> None:
        """Redraw ``loss.png`` from the log."""
        rows = [(row["step"], row["loss"]) for row in self.history() if "loss" in row]
        if len(rows) > 1:
            with atomic_file(self.path / "loss.png") as temporary:
                plot_curve(rows).save(temporary, format="PNG")


def step_of(path: Path) -> int:
    """Optimiser steps before the checkpoint at ``path``."""
    return int(path.name.removeprefix("step_"))


def sweep(folder: Path) -> None:
    """Remove a folder that nobody needs; one that cannot be removed is told of, and is in nobody's way."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _log.warning("%s could not be removed (%s); the next start tries again", folder, error.strerror or error)


def finished_artefact(path: Path, steps: int) -> Path | None:
    """What a run of ``steps`` steps that has come to its end has exported; None while there is anything left to do."""
    last = path / "checkpoints" / f"step_{steps:08d}"
    return _artefact(path, steps) if last.is_dir() else None


def _artefact(path: Path, steps: int | None = None) -> Path | None:
    """What a run exported at its end, after ``steps`` steps if given; None where that is not there."""
    try:
        record = json.loads((path / FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    artefact: Path = path / record["artefact"]
    return artefact if steps in (None, record["step"]) and artefact.exists() else None


def read_log(run: Path) -> list[dict[str, Any]]:
    """All lines that a run has logged; one cut short by a crash is left out."""
    path = run / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for line in lines if (row := _parse_line(line)) is not None]


def environment_stamp() -> dict[str, Any]:
    """Versions, device and command line: what is needed to say later how a number came about."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in STAMPED_PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "git": _git_commit(),
    }


def plot_curve(points: list[tuple[int, float]], size: tuple[int, int] = (640, 360)) -> Image.Image:
    """A plain line plot of (step, loss), the axis ends labelled; needs no plotting library."""
    width, height, margin = *size, 44
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    span_x, span_y = max(steps[-1] - steps[0], 1), max(high - low, 1e-12)
    line = [
        (
            margin + (s - steps[0]) / span_x * (width - 2 * margin),
            height - margin - (v - low) / span_y * (height - 2 * margin),
        )
        for s, v in points
    ]
    draw.rectangle((margin, margin, width - margin, height - margin), outline="#bbbbbb")
    draw.line(line, fill="#1f5fbf", width=2)
    draw.text((4, margin - 6), f"{high:.4g}", fill="black")
    draw.text((4, height - margin - 6), f"{low:.4g}", fill="black")
    draw.text((margin, height - margin + 8), f"step {steps[0]}", fill="black")
    draw.text((width - margin - 60, height - margin + 8), f"step {steps[-1]}", fill="black")
    draw.text((width // 2 - 12, 12), "loss", fill="black")
    return image


def _event_writer(path: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("train.tensorboard: needs the tensorboard package; pip install 'raekit[train]'") from None
    return SummaryWriter(str(path))


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except json.JSONDecodeError:
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
