"""The whole check of an accelerator in one resumable call: its tests, then speed, MFU and memory at the papers' sizes.

    python scripts/gpu_check.py --out OUT            # all of it: under ten minutes on an H100
    python scripts/gpu_check.py --out OUT --smoke    # nano sizes, also on a CPU, to see that the script works

In: nothing; weights are random and pictures noise. Out: OUT/tests.txt, and OUT/NAME.json for each of the benches
below, as `raekit bench` writes it. A bench is skipped where its file is there already, so a call that was cut off goes
on; one that fails leaves NAME.txt with what it said, and the others run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from raekit.training.planning.machines import board_of

ROOT = Path(__file__).resolve().parents[1]

DIT_DH = "recipes/stage2/imagenet256_dit_dh_xl.yaml"
T2I = "recipes/stage2/t2i_pretrain_2.4b.yaml"
NANO = "recipes/nano/generator_queries.yaml"


def training(recipe: str, batch_size: int, *settings: str) -> list[str]:
    """A bench of training steps of so many pictures, in one pass."""
    sizes = (f"train.batch_size={batch_size}", f"train.micro_batch_size={batch_size}")
    changes = [word for setting in (*sizes, *settings) for word in ("--set", setting)]
    return ["stage2", recipe, "--random-weights", *changes]


def sampling(recipe: str, batch_size: int, steps: int = 50) -> list[str]:
    """A bench of drawing, with guidance and without."""
    return ["sample", "--model", recipe, "--batch-size", str(batch_size), "--steps", str(steps)]


BENCHES = {
    "dit_dh_xl_train": training(DIT_DH, 128),
    "dit_dh_xl_train_compiled": training(DIT_DH, 128, "train.compile=true"),
    "dit_dh_xl_sample": sampling(DIT_DH, 32),
    "t2i_2.4b_train": training(T2I, 16, "train.checkpoint_activations=full"),
    "t2i_2.4b_sample": sampling(T2I, 16),
}
SMOKE = {"nano_train": [*training(NANO, 2), "--repeats", "1"], "nano_sample": [*sampling(NANO, 1, 2), "--repeats", "1"]}


def main() -> None:
    arguments = parse()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if not (arguments.smoke or (out / "tests.txt").is_file()):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"], cwd=ROOT, capture_output=True, text=True
        )
        (out / "tests.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        print(done.stdout.strip().splitlines()[-1])
    for name, words in (SMOKE if arguments.smoke else BENCHES).items():
        if time.monotonic() - start > arguments.seconds:
            sys.exit(f"{arguments.seconds:.0f} s are over before {name}; the same command goes on from there")
        if not (out / f"{name}.json").is_file():
            bench(name, words, out)
        if (out / f"{name}.json").is_file():
            tell(name, out)


def bench(name: str, words: list[str], out: Path) -> None:
    """One bench in a process of its own, whose memory goes with it."""
    command = [sys.executable, "-m", "raekit", "bench", *words, "--out", str(out / f"{name}.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        (out / f"{name}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        print(f"{name}: failed, see {out / f'{name}.txt'}: {done.stderr.strip().splitlines()[-1]}")


def tell(name: str, out: Path) -> None:
    """A line for each report: images/s, share of the maker's peak, memory."""
    for report in json.loads((out / f"{name}.json").read_text(encoding="utf-8")):
        tflops, board = report["call_flops"] / report["call_seconds"] / 1e12, board_of(report["device"])
        share = "peak not known" if board is None else f"{tflops / board.tflops:.1%} of peak"
        speed, memory = report["images_per_second"], report["peak_bytes"] / 2**30
        print(f"{name}: {report['name']}: {speed:.2f} images/s, {share}, {memory:.1f} GiB")


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
