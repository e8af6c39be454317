"""What saving costs the loop: how long a checkpoint holds it up, written at once or in the background.

In: a width and a depth of a backbone, a folder on the disk that runs are kept on. Out: :class:`SavingReport`. Each
checkpoint holds weights, average and two moments of fp32, 16 bytes a weight, and is written as training writes it:
flushed, with a checksum of every file. In the background the loop waits for the copy alone (on CUDA into page-locked
memory), unless the next checkpoint comes before this one lies on the disk.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from raekit import cost
from raekit.backbones.dit import DiT
from raekit.training.parallel.peers import Peers
from raekit.training.saving import checkpoint_files
from raekit.training.saving.snapshots import Background

KINDS = ("model", "ema", "optimizer/exp_avg", "optimizer/exp_avg_sq")
"""What a checkpoint holds of each weight."""
GIGA = 1e9


@dataclass(frozen=True)
class SavingReport:
    """Of one way to save.

    Attributes:
        is_in_background: written while training goes on.
        num_bytes: of a checkpoint.
        held_up_seconds: median time until the loop may go on, by the clock.
        busy_seconds: of it, processor time of the loop's own thread, which other programs do not change.
        whole_seconds: median time until the checkpoint lies on the disk, when nothing else is done meanwhile.
    """

    is_in_background: bool
    num_bytes: int
    held_up_seconds: float
    busy_seconds: float
    whole_seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """For a terminal."""
        return [
            ("checkpoint", f"{self.num_bytes / GIGA:.2f} GB"),
            ("holds the loop up", f"{self.held_up_seconds:.2f} s, {self.busy_seconds:.2f} s of processor"),
            ("on the disk after", f"{self.whole_seconds:.2f} s"),
        ]


def bench_saving(
    width: int, depth: int, folder: Path, device: torch.device, repeats: int = 3
) -> tuple[SavingReport, SavingReport]:
    """Save a DiT's state at once, and in the background.

    Args:
        width: of its tokens, a multiple of 64.
        depth: blocks.
        folder: there already; nothing is left in it.
        device: where the weights lie.
        repeats: checkpoints of each kind; one more comes first.
    """
    with torch.device(device):
        backbone = DiT(DiT.Config(size="nano", width=width, depth=depth, heads=width // 64), (16, 4, 4), width)
    weights = {name: parameter.detach() for name, parameter in backbone.named_parameters()}
    tensors = {f"{kind}.{name}": value.clone() for kind in KINDS for name, value in weights.items()}
    size = checkpoint_files.size_in_bytes(tensors.values())
    writer, reports = Background(device), []
    for is_in_background in (False, True):
        laps = []
        for _ in range(repeats + 1):
            with tempfile.TemporaryDirectory(dir=folder, prefix="bench_saving_") as place:
                laps.append(_lap(Path(place) / "step_00000001", tensors, writer if is_in_background else None, device))
        medians = (statistics.median(times) for times in zip(*laps[1:], strict=True))
        reports.append(SavingReport(is_in_background, size, *medians))
    return reports[0], reports[1]


def _lap(
    path: Path, tensors: dict[str, torch.Tensor], writer: Background | None, device: torch.device
) -> tuple[float, float, float]:
    """Seconds until the loop may go on, by the clock and of the processor, and until the checkpoint is whole."""
    cost.wait(device)
    start, busy = time.perf_counter(), time.thread_time()
    if writer is None:
        checkpoint_files.write(path, tensors, {}, Peers())
    else:
        writer.start(lambda copies: checkpoint_files.write(path, copies, {}, Peers()), tensors)
    held_up, busy = time.perf_counter() - start, time.thread_time() - busy
    if writer is not None:
        writer.wait()
    whole = time.perf_counter() - start
    shutil.rmtree(path)
    return held_up, busy, whole
