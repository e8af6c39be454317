"""The whole check of an accelerator in one call: its tests, then training speed of generators in bf16.

    python scripts/gpu_check.py --out OUT                 # tests and the sizes S, B, XL
    python scripts/gpu_check.py --out OUT --sizes nano --steps 3   # also runs on a CPU, to see that the script works

In: nothing. Out: OUT/tests.txt and OUT/speed.json: images/s, model FLOP/s against the device's peak where that is
known, and peak memory, of whole training steps (forward, backward, AdamW, EMA) on latents of 768 x 16 x 16. Each size
is written as soon as it is measured; sizes already in speed.json are not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from raekit.backbones import BACKBONES
from raekit.conditioning.base import Cond
from raekit.device import autocast, pick_device
from raekit.training.optim import EMA, OptimConfig, build_optimizer
from raekit.transport.objective import FlowMatching

ROOT = Path(__file__).resolve().parents[1]
LATENT = (768, 16, 16)
COND_WIDTH = 1024
PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s of the makers' data sheets, by a part of the device's name."""


def main() -> None:
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.skip_tests:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        (arguments.out / "tests.txt").write_text(done.stdout + done.stderr)
        print(done.stdout.strip().splitlines()[-1])
    report = arguments.out / "speed.json"
    rows = json.loads(report.read_text()) if report.is_file() else {}
    for size in arguments.sizes:
        if size not in rows:
            rows[size] = measure(size, arguments.batch_size, arguments.steps)
            report.write_text(json.dumps(rows, indent=1) + "\n")
        print(size, rows[size])


def measure(size: str, batch_size: int, steps: int) -> dict[str, float | str | None]:
    """Images/s of whole training steps; the first two steps are warm-up."""
    device = pick_device()
    config = BACKBONES["dit"].Config(size=size)
    model = BACKBONES.build(config, latent_shape=LATENT, cond_width=COND_WIDTH).to(device)
    flow = FlowMatching(FlowMatching.Config(), LATENT[0] * LATENT[1] * LATENT[2])
    optimizer = build_optimizer(model.parameters(), OptimConfig())
    ema = EMA(dict(model.named_parameters()), 0.999)
    z = torch.randn(batch_size, *LATENT, device=device)
    cond = Cond(tokens=torch.randn(batch_size, LATENT[1] * LATENT[2], COND_WIDTH, device=device))

    def step() -> None:
        t = flow.sample_t(torch.rand(batch_size, device=device))
        with autocast("bf16" if device.type == "cuda" else "auto", device):
            loss = flow.loss(model, z, cond, t, torch.randn_like(z)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update()

    for _ in range(2):
        step()
    start = synchronised(device)
    for _ in range(steps):
        step()
    images_per_second = steps * batch_size / (synchronised(device) - start)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim >= 2)
    flops = 6 * matrices * LATENT[1] * LATENT[2] * images_per_second
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peak = next((value for part, value in PEAK_BF16.items() if part in name), None)
    return {
        "device": name,
        "batch_size": batch_size,
        "images_per_second": round(images_per_second, 2),
        "model_flops_per_second": flops,
        "mfu": None if peak is None else round(flops / peak, 4),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.type == "cuda" else None,
    }


def synchronised(device: torch.device) -> float:
    """The clock, after all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["S", "B", "XL"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--skip-tests", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
