"""The whole check of an accelerator in one resumable call: its tests, then speed, MFU and memory at the papers' sizes.

    python scripts/gpu_check.py --out OUT            # what eight minutes hold; the same call again goes on
    python scripts/gpu_check.py --out OUT --smoke    # nano sizes, also on a CPU, to see that the script works

In: nothing; weights are random and pictures noise. Out: OUT/tests.txt, and OUT/NAME.json for each of the benches
below, as `raekit bench` writes it. What has its file already is skipped, so a call that was cut off goes on. What fails
leaves tests_failed.txt or NAME.txt with what it said and is tried again by the next call, failed tests after the
benches. No network is needed, and raekit need not be installed; the packages that it depends on must be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DIT_DH = "recipes/stage2/imagenet256_dit_dh_xl.yaml"
T2I = "recipes/stage2/t2i_pretrain_2.4b.yaml"
UNIFIED = "recipes/stage2/unified_pretrain_2.4b.yaml"
UNDERSTANDING = "recipes/stage2/unified_understanding.yaml"
NANO = "recipes/nano/generator_queries.yaml"
NANO_UNIFIED = "recipes/nano/unified.yaml"


def training(recipe: str, batch_size: int, *settings: str) -> list[str]:
    """A bench of training steps of so many pictures, in one pass."""
    sizes = (f"train.batch_size={batch_size}", f"train.micro_batch_size={batch_size}")
    changes = [word for setting in (*sizes, *settings) for word in ("--set", setting)]
    return ["stage2", recipe, "--random-weights", *changes]


def sampling(recipe: str, batch_size: int, steps: int = 50) -> list[str]:
    """A bench of drawing, with guidance and without."""
    return ["sample", "--model", recipe, "--batch-size", str(batch_size), "--steps", str(steps)]


def answering(recipe: str, batch_size: int, words: int = 64) -> list[str]:
    """A bench of answers, alone and together, with keys and values kept and without."""
    return ["understand", "--model", recipe, "--batch-size", str(batch_size), "--words", str(words)]


BENCHES = {
    "dit_dh_xl_train": training(DIT_DH, 128),
    "dit_dh_xl_train_compiled": training(DIT_DH, 128, "train.compile=true"),
    "dit_dh_xl_sample": sampling(DIT_DH, 32),
    # With the language model trained too, one GPU would have to hold 86 GiB.
    "t2i_2.4b_train_frozen_llm": training(
        T2I, 16, "condition.is_llm_trained=false", "train.checkpoint_activations=full"
    ),
    "t2i_2.4b_sample": sampling(T2I, 16),
    "unified_2.4b_train_frozen_llm": training(
        UNIFIED, 16, "condition.is_llm_trained=false", "train.checkpoint_activations=full"
    ),
    # The language model learns whole, the backbone rests: nothing is drawn.
    "unified_understanding_train": training(UNDERSTANDING, 16, "train.checkpoint_activations=full"),
    "unified_1.5b_understand": answering(UNIFIED, 8),
}
SMOKE = {
    "nano_train": [*training(NANO, 2), "--repeats", "1"],
    "nano_sample": [*sampling(NANO, 1, 2), "--repeats", "1"],
    "nano_unified_train": [*training(NANO_UNIFIED, 2), "--repeats", "1"],
    "nano_understand": [*answering(NANO_UNIFIED, 2, 2), "--repeats", "1"],
}


def main() -> None:
    arguments = parse()
    out = arguments.out.resolve()
    if lacking := missing_packages():
        sys.exit(
            f"{', '.join(lacking)}: not installed for {sys.executable}; without a network install them from wheels"
        )
    out.mkdir(parents=True, exist_ok=True)
    start, benches = time.monotonic(), SMOKE if arguments.smoke else BENCHES
    has_failed = (out / "tests_failed.txt").is_file()
    names = [*benches] if arguments.smoke else [*benches, "tests"] if has_failed else ["tests", *benches]
    for name in names:
        path = out / ("tests.txt" if name == "tests" else f"{name}.json")
        if not path.is_file():
            if time.monotonic() - start > arguments.seconds:
                sys.exit(f"{arguments.seconds:.0f} s are over before {name}; the same command goes on from there")
            check_tests(out) if name == "tests" else bench(name, benches[name], out)
        if path.is_file() and name != "tests":
            tell(name, out)


def missing_packages() -> list[str]:
    """What raekit and its tests depend on and this Python has not."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    found = (re.match(r"[\w.-]+", requirement) for requirement in (*stated, "pytest"))
    return [match[0] for match in found if match and not is_installed(match[0])]


def is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Python on the source tree, in a process of its own, whose memory goes with it."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def last_line(text: str) -> str:
    """What somebody said last, if anything."""
    return (text.strip().splitlines() or ["nothing was said"])[-1]


def check_tests(out: Path) -> None:
    """The tests of an accelerator; only those that passed are not run again."""
    done = run("-m", "pytest", "-q", "-m", "gpu", "tests/gpu")
    (out / "tests_failed.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode == 0:
        (out / "tests_failed.txt").replace(out / "tests.txt")
    print(f"tests: {last_line(done.stdout or done.stderr)}")


def bench(name: str, words: list[str], out: Path) -> None:
    """One bench."""
    done, said = run("-m", "raekit", "bench", *words, "--out", str(out / f"{name}.json")), out / f"{name}.txt"
    if done.returncode:
        said.write_text(done.stdout + done.stderr, encoding="utf-8")
        print(f"{name}: failed, see {said}: {last_line(done.stderr)}")
    else:
        said.unlink(missing_ok=True)


def tell(name: str, out: Path) -> None:
    """A line for each report: images/s or what else is counted, share of the maker's peak, memory."""
    sys.path.insert(0, str(ROOT / "src"))
    from raekit.training.planning.machines import board_of

    for report in json.loads((out / f"{name}.json").read_text(encoding="utf-8")):
        tflops, board = report["call_flops"] / report["call_seconds"] / 1e12, board_of(report["device"])
        share = "peak not known" if board is None else f"{tflops / board.tflops:.1%} of peak"
        unit, memory = f"{report['unit']}s", report["peak_bytes"] / 2**30
        speed = f"{report[f'{unit}_per_second']:.2f} {unit}/s"
        if report["tokens"]:
            speed += f", {report['tokens_per_second']:.1f} tokens/s"
        print(f"{name}: {report['name']}: {speed}, {share}, {memory:.1f} GiB")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="nano sizes, without the tests")
    parser.add_argument(
        "--seconds", type=float, default=480, help="start no bench after so long; the call can be repeated"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
